# SPDX-License-Identifier: GPL-2.0-only
"""The kernel in a boot image: unpacked, as an ELF file or as it lies in memory."""

import gzip
import io
import lzma
import struct

from toolkit.errors import UserError

#: What a compressed payload begins with (scripts/extract-vmlinux in the kernel's source).
_GZIP, _XZ, _ZSTD = b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"


def extract(image: bytes, name: str) -> bytes:
    """Unpack the kernel that a boot image carries.

    :param image: a bzImage of the x86 boot protocol 2.08 or newer (Documentation/arch/x86/boot.rst), an Image
        of arm64, compressed by gzip or not (Documentation/arch/arm64/booting.rst), or vmlinux itself.
    :param name: of the file, for a sentence.
    :return: the ELF file vmlinux; of arm64 the kernel as it lies in memory.
    :raises UserError: if the file is no such image, or compressed in another way than gzip, xz or zstd.
    """
    if image.startswith(_GZIP):
        image = gzip.decompress(image)
    if image.startswith(b"\x7fELF") or image[0x38:0x3C] == b"ARMd":
        return image
    if image[0x202:0x206] != b"HdrS":
        raise UserError(f"{name} is no bzImage and no Image of arm64.")
    (sectors,) = struct.unpack_from("<B", image, 0x1F1)
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    payload = image[start : start + length]
    if payload.startswith(_GZIP):
        # The four bytes behind it, its size unpacked, are no part of the stream.
        return gzip.decompress(payload[:-4])
    if payload.startswith(_XZ):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(_ZSTD):
        import pyarrow as pa

        return bytes(pa.CompressedInputStream(io.BytesIO(payload[:-4]), "zstd").read())
    raise UserError(f"{name} is compressed in a way that is not known here.")
