# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that are compiled here, of the distribution's source and a configuration of our own.

A kernel is cached under a key made of all that the recipe has, as images are. It takes the newest source and
compiler of the release on the day on which it is compiled, and says in /proc/version which these were.
"""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import UserError
from vm.cmd import cmd
from vm.image import debian, kernels
from vm.machines import Kernel
from vm.paths import cache

CONFIGS = Path(__file__).parent / "configs"

# What compiles a kernel with BTF: bpf_doc.py needs Python, busybox is for the ramdisk.
PACKAGES = [
    *("bc", "bison", "busybox-static", "cpio", "dwarves", "flex", "gcc", "kmod"),
    *("libc6-dev", "libelf-dev", "make", "python3", "xz-utils"),
]

APPLETS = ["sh", "mount", "umount", "cat", "mkdir", "chmod", "chroot", "ip", "usleep", "switch_root"]

# A list for the kernel's own gen_init_cpio: it makes a console, for which others would have to be root.
RAMDISK = [
    *(f"dir /{name} 755 0 0" for name in ("bin", "dev", "root", "sys")),
    "nod /dev/console 600 0 0 c 5 1",
    "file /bin/busybox /bin/busybox 755 0 0",
    *(f"slink /bin/{applet} busybox 755 0 0" for applet in APPLETS),
    "file /init /ramdisk/init 755 0 0",
]


@dataclass(frozen=True)
class Compiled:
    """A kernel that is ready to boot.

    :param kernel: vmlinux, with its BTF and without other debugging information.
    """

    kernel: Path
    initrd: Path


def ensure(config: str, of: Kernel, *, force: bool = False, say: debian.Say) -> Compiled:
    """Compile a kernel, unless it is in the cache.

    :param config: the name of a file in vm/image/configs, without its suffix.
    :param of: the kernel whose source is taken.
    :param force: compile it anew.
    :param say: is told of progress, a line at a time.
    :raises UserError: if there is no such configuration, or it does not compile.
    """
    name = key(config, of)
    directory = cache() / "kernels" / name
    debian.once(
        directory,
        lambda work: _compile(config, of, work, say),
        what=f"the kernel {name}",
        force=force,
        say=say,
    )
    return Compiled(directory / "vmlinux", directory / "initrd")


def key(config: str, of: Kernel) -> str:
    """Return a name for a kernel that changes with everything it is made of.

    :raises UserError: if there is no such configuration.
    """
    path = CONFIGS / f"{config}.config"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in CONFIGS.glob("*.config")))
        raise UserError(f"no configuration of a kernel is called {config}; there is {known}.")
    digest = hashlib.sha256("\0".join([*PACKAGES, *RAMDISK]).encode())
    digest.update(path.read_bytes() + (CONFIGS / "init").read_bytes())
    return f"{of.suite}-{config}-{digest.hexdigest()[:12]}"


def lacking(wanted: str, config: str) -> list[str]:
    """Return the lines of a configuration that a kernel's whole .config does not have: it knows better."""
    lines = [line for line in wanted.splitlines() if line.startswith(("CONFIG_", "# CONFIG_"))]
    return sorted({*lines} - {*config.splitlines()}, key=lines.index)


def _compile(config: str, of: Kernel, work: Path, say: debian.Say) -> None:
    source = kernels.source(of, say)
    root, packed = work / "tools", work / "tools.tar"
    words = ["--variant=apt", "--format=tar", f"--include={','.join(PACKAGES)}", of.release, str(packed)]
    debian.mmdebstrap([*words, *debian.sources(of.release)], say)
    root.mkdir()
    cmd(["tar", "--extract", "--file", packed, "--directory", root, "--no-same-owner", "--exclude=./dev/*"])
    packed.unlink()
    for name in ("build", "dev", "proc", "ramdisk", "src"):
        (root / name).mkdir(exist_ok=True)
    build = root / "build"
    wanted = (CONFIGS / f"{config}.config").read_text()
    (build / "wanted").write_text(wanted)
    shutil.copy(CONFIGS / "init", root / "ramdisk")
    (root / "ramdisk/list").write_text("\n".join([*RAMDISK, ""]))

    enter = debian.enter(root, source)
    make = [*enter, "make", "-C", "/src", "O=/build", "KBUILD_BUILD_USER=vm", "KBUILD_BUILD_HOST=testbed"]
    cmd([*make, "KCONFIG_ALLCONFIG=/build/wanted", "allnoconfig"])
    if lines := lacking(wanted, (build / ".config").read_text()):
        raise UserError(f"{source.name} does not take {', '.join(lines)} of {config}.config.")
    say(f"compiling {source.name}")
    cmd([*make, f"-j{os.cpu_count()}", "vmlinux"])
    cmd([*enter, "strip", "--strip-debug", "/build/vmlinux"])
    cmd([*enter, "sh", "-c", "/build/usr/gen_init_cpio /ramdisk/list >/build/initrd"])
    for name in ("vmlinux", "initrd"):
        shutil.move(build / name, work / name)
    shutil.rmtree(root)
