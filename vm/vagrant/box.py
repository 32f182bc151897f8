# SPDX-License-Identifier: GPL-2.0-only
"""Make a Vagrant box for libvirt from the image that ``python -m vm`` boots.

The image is a file system without partitions or boot loader. The box is that image with GRUB around it: its
first sector lies in the 1024 bytes that ext4 leaves free, and the rest behind the end of the file system.
"""

import dataclasses
import io
import json
import shutil
import struct
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from toolkit.errors import UserError
from vm.cmd import cmd
from vm.image import image
from vm.machines import Machine
from vm.paths import cache
from vm.qemu import accel, command, emulator

#: What the names of our boxes begin with.
OURS = "rx-stall/"
GRUB = Path("/usr/lib/grub/i386-pc")
MODULES = ["biosdisk", "ext2", "gzio", "linux", "memdisk", "multiboot2", "normal", "regexp", "smbios", "tar"]
SECTOR = 512
MIB = 1 << 20

# Where GRUB 2 keeps the address of what is loaded next: grub-core/boot/i386/pc/boot.S (kernel_sector), and
# the last block list of diskboot.S.
BOOT_NEXT = 0x5C
CORE_NEXT = 0x1F4


def name(machine: Machine) -> str:
    """Return the name of a machine's box: each image has one, and one more where it boots a Xen host."""
    parts = [machine.release]
    if machine.kernel:
        parts.append(machine.kernel.removeprefix(f"{machine.release}-"))
    if machine.xen:
        parts.append("xen")
    return f"{OURS}{'-'.join(parts)}"


def add(machine: Machine, say: Callable[[str], None]) -> str:
    """Build the box and give it to Vagrant, in place of an older one.

    :param machine: whose image to take.
    :param say: is told of progress, a line at a time.
    :return: the box's name.
    :raises UserError: if a tool is missing or fails.
    """
    if shutil.which("vagrant") is None:
        raise UserError("vagrant is not installed: run `make setup-vagrant`.")
    built = image.ensure(machine, say=say)
    # The Vagrantfile asks no hypervisor: it reads the answer that is remembered here.
    accel.choose_accel(built, say, emulator.ensure(say=say))
    with tempfile.TemporaryDirectory(prefix="box-", dir=cache()) as directory:
        file = Path(directory) / "box"
        say(f"packing the box {name(machine)}")
        pack(built, file, _boot(machine))
        say("adding it to Vagrant")
        words = ["vagrant", "box", "add", "--force", "--provider", "libvirt", "--name", name(machine)]
        cmd([*words, file])
    return name(machine)


def pack(built: image.Image, target: Path, boot: Sequence[str]) -> None:
    """Write an image as a box.

    :param built: the image.
    :param target: the file to write.
    :param boot: GRUB's commands that load it; $words is what comes with the machine besides, as the "family"
        of its SMBIOS data.
    """
    with tempfile.TemporaryDirectory(prefix="box-", dir=target.parent) as directory:
        disk = Path(directory) / "box.img"
        cmd(["cp", "--reflink=auto", built.disk, disk])
        size: int = json.loads(cmd(["qemu-img", "info", "--output=json", disk]).stdout)["virtual-size"]
        first, rest = loader(boot, size // SECTOR)
        (Path(directory) / "first").write_bytes(first)
        (Path(directory) / "rest").write_bytes(rest)
        cmd(["qemu-img", "resize", "-q", "-f", "qcow2", disk, str(size + MIB)])
        writes = [f"write -q -s {directory}/first 0 {len(first)}"]
        writes += [f"write -q -s {directory}/rest {size} {len(rest)}"]
        cmd(["qemu-io", "-f", "qcow2", *(word for write in writes for word in ("-c", write)), disk])
        # Vagrant counts in GiB, and makes a disk of no less than that.
        metadata = {"provider": "libvirt", "format": "qcow2", "virtual_size": -(-(size + MIB) >> 30)}
        with tarfile.open(target, "w") as box:
            text = json.dumps(metadata).encode()
            member = tarfile.TarInfo("metadata.json")
            member.size = len(text)
            box.addfile(member, io.BytesIO(text))
            box.add(disk, "box.img")


def loader(boot: Sequence[str], sector: int) -> tuple[bytes, bytes]:
    """GRUB for a disk that is one ext4 file system.

    :param boot: its commands that load what is to be booted, of files in there.
    :param sector: from where on the second part lies.
    :return: the first sector, and the second part in whole sectors.
    """
    if not GRUB.is_dir() or shutil.which("grub-mkimage") is None:
        raise UserError("GRUB for a BIOS is not installed: run `make setup-vagrant`.")
    lines = [
        "set root=(hd0)",
        "smbios --type 1 --get-string 26 --set words",
        *boot,
        "boot",
        "",
    ]
    with tempfile.TemporaryDirectory() as directory:
        # Only a script splits $words, and what GRUB embeds as its configuration is not run as one.
        script, embedded = Path(directory) / "script.tar", Path(directory) / "embedded.cfg"
        with tarfile.open(script, "w") as archive:
            text = "\n".join(lines).encode()
            member = tarfile.TarInfo("grub.cfg")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
        embedded.write_text("normal (memdisk)/grub.cfg\n")
        core = Path(directory) / "core.img"
        words = ["grub-mkimage", "--format=i386-pc", "--prefix=(memdisk)", f"--config={embedded}"]
        cmd([*words, f"--memdisk={script}", f"--output={core}", *MODULES])
        rest = bytearray(core.read_bytes())
    rest += bytes(-len(rest) % SECTOR)
    if len(rest) > MIB:
        raise UserError(f"GRUB is larger than expected: {len(rest)} bytes.")
    first = bytearray((GRUB / "boot.img").read_bytes())
    struct.pack_into("<Q", first, BOOT_NEXT, sector)
    struct.pack_into("<Q", rest, CORE_NEXT, sector + 1)
    return bytes(first), bytes(rest)


def _boot(machine: Machine) -> list[str]:
    """Return GRUB's commands; of the kernel's command line the part that all machines of a box share."""
    line = f"{command.kernel_command_line(dataclasses.replace(machine, cmdline=()))} $words"
    if machine.xen is None:
        return [f"linux /vmlinuz {line}", "initrd /initrd.img"]
    return [
        f"multiboot2 /boot/xen-*.gz {command.xen_command_line(machine.xen)}",
        f"module2 /vmlinuz {line}",
        "module2 /initrd.img",
    ]
