# SPDX-License-Identifier: GPL-2.0-only
import gzip
import lzma
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from toolkit.capture import vmlinux
from toolkit.errors import UserError

KERNEL = Path(sys.executable).resolve().read_bytes()[:100_000]


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, "zstd", asbytes=True))


def image(payload: bytes) -> bytes:
    """Make a bzImage: boot sector and setup, then what is compressed, then padding."""
    data = bytearray(5 * 512)
    data[0x1F1] = 3
    data[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", data, 0x248, 512, len(payload))
    return bytes(data + payload + b"padding")


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_kernel_is_unpacked_and_its_size_left_off(pack: Callable[[bytes], bytes]) -> None:
    payload = pack(KERNEL) + len(KERNEL).to_bytes(4, "little")
    assert vmlinux.extract(image(payload), "bzImage") == KERNEL


def test_kernel_of_xz_is_unpacked() -> None:
    assert vmlinux.extract(image(lzma.compress(KERNEL)), "bzImage") == KERNEL


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_image_of_arm64_is_the_kernel_itself(pack: Callable[[bytes], bytes]) -> None:
    kernel = b"MZ" + bytes(0x36) + b"ARMd" + bytes(64)
    assert vmlinux.extract(pack(kernel), "Image") == kernel


def test_vmlinux_is_the_kernel_itself() -> None:
    assert vmlinux.extract(KERNEL, "vmlinux") == KERNEL


def test_file_that_is_no_kernel_is_one_sentence() -> None:
    with pytest.raises(UserError, match="file is no bzImage"):
        vmlinux.extract(bytes(1024), "file")


def test_unknown_compression_is_one_sentence() -> None:
    with pytest.raises(UserError, match="compressed in a way that is not known"):
        vmlinux.extract(image(b"\x02\x21\x4c\x18rest"), "file")
