# SPDX-License-Identifier: GPL-2.0-only
import gzip
import lzma
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from toolkit.errors import UserError
from vm.image import vmlinux

KERNEL = Path(sys.executable).resolve().read_bytes()[:100_000]


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, "zstd", asbytes=True))


def image(payload: bytes, path: Path) -> Path:
    """Make a bzImage: boot sector and setup, then what is compressed, then padding."""
    data = bytearray(5 * 512)
    data[0x1F1] = 3
    data[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", data, 0x248, 512, len(payload))
    path.write_bytes(data + payload + b"padding")
    return path


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_kernel_is_unpacked_and_its_size_left_off(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    payload = pack(KERNEL) + len(KERNEL).to_bytes(4, "little")
    assert vmlinux.extract(image(payload, tmp_path / "bzImage")) == KERNEL


def test_kernel_of_xz_is_unpacked(tmp_path: Path) -> None:
    assert vmlinux.extract(image(lzma.compress(KERNEL), tmp_path / "bzImage")) == KERNEL


def test_file_that_is_no_kernel_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1024))
    with pytest.raises(UserError, match="file is no bzImage"):
        vmlinux.extract(tmp_path / "file")


def test_unknown_compression_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="compressed in a way that is not known"):
        vmlinux.extract(image(b"\x02\x21\x4c\x18rest", tmp_path / "bzImage"))


def test_section_is_found_by_its_name() -> None:
    elf = Path("/bin/true").read_bytes()
    assert vmlinux.section(elf, ".interp").startswith(b"/lib")
    with pytest.raises(UserError, match=r"no section \.BTF"):
        vmlinux.section(elf, ".BTF")
