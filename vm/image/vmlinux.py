# SPDX-License-Identifier: GPL-2.0-only
"""The kernel in a bzImage: an emulated CPU takes seconds to unpack it, and it has the kernel's types."""

import gzip
import io
import lzma
import struct
from pathlib import Path

from toolkit.errors import UserError

#: What a compressed payload begins with (scripts/extract-vmlinux in the kernel's source).
_GZIP, _XZ, _ZSTD = b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"


def extract(image: Path) -> bytes:
    """Unpack the ELF file vmlinux that a bzImage carries.

    :param image: of the x86 boot protocol 2.08 or newer (Documentation/arch/x86/boot.rst).
    :raises UserError: if the file is no such image, or compressed in another way than gzip, xz or zstd.
    """
    data = image.read_bytes()
    if data[0x202:0x206] != b"HdrS":
        raise UserError(f"{image} is no bzImage.")
    (sectors,) = struct.unpack_from("<B", data, 0x1F1)
    offset, length = struct.unpack_from("<II", data, 0x248)
    start = (sectors + 1) * 512 + offset
    payload = data[start : start + length]
    if payload.startswith(_GZIP):
        # The four bytes behind it, its size unpacked, are no part of the stream.
        return gzip.decompress(payload[:-4])
    if payload.startswith(_XZ):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(_ZSTD):
        import pyarrow as pa

        return bytes(pa.CompressedInputStream(io.BytesIO(payload[:-4]), "zstd").read())
    raise UserError(f"{image} is compressed in a way that is not known here.")


def section(elf: bytes, name: str) -> bytes:
    """Return the content of a section of a 64-bit little-endian ELF file (elf(5)).

    :raises UserError: if there is none of that name.
    """
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<HHH", elf, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", elf, table + number * size) for number in range(count)]
    strings = headers[names][4]
    for title, _, _, _, offset, length in headers:
        start = strings + title
        if elf[start : elf.index(b"\0", start)] == name.encode():
            return elf[offset : offset + length]
    raise UserError(f"this ELF file has no section {name}.")
