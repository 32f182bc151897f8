# SPDX-License-Identifier: GPL-2.0-only
"""Run programs of another architecture, as those of an image are: by a QEMU that the kernel starts.

The kernel is told of the QEMU (binfmt_misc, Documentation/admin-guide/binfmt-misc.rst), and forgets it at the
end. Nothing is installed.
"""

import os
from pathlib import Path

from toolkit.errors import UserError
from vm.image import debian
from vm.machines import ARCHITECTURES
from vm.qemu import emulator

#: Where the kernel says which programs it starts others with.
_KNOWN = Path("/proc/sys/fs/binfmt_misc")

#: How a program of each architecture begins, and which bits of that count: an ELF file of 64 bits,
#: little-endian, that is run or loaded, for the machine of that number (elf.h).
_MAGIC = {
    "arm64": (
        r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00",
        r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff",
    )
}

_RUN = (
    f"{debian.PRIVATE}mount -t binfmt_misc none {_KNOWN} || exit; name=$1 line=$2; shift 2; "
    f'printf %s "$line" >{_KNOWN}/register || exit; '
    f'"$@"; status=$?; echo -1 >{_KNOWN}/$name; exit $status'
)


def words(architecture: str, say: debian.Say = debian.stderr) -> list[str]:
    """Return the words before a command, for programs of an architecture; none if the kernel can already.

    :param architecture: as Debian calls it.
    :param say: is told of progress, a line at a time.
    :raises UserError: if only root could do it.
    """
    if architecture == "amd64" or (_KNOWN / f"qemu-{ARCHITECTURES[architecture]}").exists():
        return []
    if os.geteuid():
        raise UserError(
            f"only root can make an image for {architecture} here, or with qemu-user-static installed "
            "(Debian: apt install qemu-user-static)."
        )
    program = emulator.user(architecture, say=say)
    name = f"rx-stall-{architecture}-{os.getpid()}"
    magic, mask = _MAGIC[architecture]
    # F: the QEMU is opened now, so that it is found in a chroot, too.
    line = f":{name}:M::{magic}:{mask}:{program}:F"
    return [*debian.own_mounts(), "sh", "-c", _RUN, "sh", name, line]
