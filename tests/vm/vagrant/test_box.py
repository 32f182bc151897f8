# SPDX-License-Identifier: GPL-2.0-only
import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from vm import machines
from vm.image.image import Image
from vm.vagrant import box

needs_grub = pytest.mark.skipif(
    shutil.which("grub-mkimage") is None or not box.GRUB.is_dir() or shutil.which("qemu-io") is None,
    reason="needs GRUB for a BIOS and qemu-utils: `make setup-vagrant`",
)


def test_machines_of_one_release_and_kernel_share_a_box() -> None:
    kinds = ("virtio-net", "aoe", "qlge", "xen", "aoe-trixie", "virtio-net-backports")
    assert [box.name(machines.find(kind)).removeprefix("rx-stall/") for kind in kinds] == [
        "bookworm",
        "bookworm",
        "bookworm",
        "bookworm-xen",
        "trixie",
        "trixie-backports",
    ]


@needs_grub
def test_loader_finds_its_second_part() -> None:
    first, rest = box.loader(["linux /vmlinuz root=/dev/vda"], 4096)
    assert (len(first), len(rest) % box.SECTOR) == (box.SECTOR, 0)
    assert struct.unpack_from("<Q", first, box.BOOT_NEXT) == (4096,)
    # The block list in the first sector: where the others are, and how many.
    start, count = struct.unpack_from("<QH", rest, box.CORE_NEXT)
    assert (start, count) == (4097, len(rest) // box.SECTOR - 1)


@needs_grub
def test_box_is_the_image_with_a_loader_around_it(tmp_path: Path) -> None:
    disk = tmp_path / "root.qcow2"
    raw = bytearray(4 * box.MIB)
    raw[1024:1030] = b"system"
    (tmp_path / "raw").write_bytes(raw)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", tmp_path / "raw", disk], check=True)

    box.pack(Image("key", disk, disk, disk, disk), tmp_path / "box", ["linux /vmlinuz root=/dev/vda"])

    (tmp_path / "unpacked").mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "box", "-C", tmp_path / "unpacked"], check=True)
    assert json.loads((tmp_path / "unpacked/metadata.json").read_text()) == {
        "provider": "libvirt",
        "format": "qcow2",
        "virtual_size": 1,
    }
    inside, outside = tmp_path / "unpacked/box.img", tmp_path / "whole"
    subprocess.run(["qemu-img", "convert", "-O", "raw", inside, outside], check=True)
    whole = outside.read_bytes()
    first, rest = box.loader(["linux /vmlinuz root=/dev/vda"], len(raw) // box.SECTOR)
    assert whole[: box.SECTOR] == first
    assert whole[box.SECTOR : len(raw)] == raw[box.SECTOR :]
    assert whole[len(raw) : len(raw) + box.SECTOR] == rest[: box.SECTOR]
    assert len(whole) == len(raw) + box.MIB
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "box",
        "raw",
        "root.qcow2",
        "unpacked",
        "whole",
    ]
