# SPDX-License-Identifier: GPL-2.0-only
"""Sections and functions of a 64-bit little-endian ELF file (elf(5)), such as a module or vmlinux."""

import struct
from typing import NamedTuple

from toolkit.errors import UserError

_MAGIC = b"\x7fELF\x02\x01"  # ELFCLASS64, ELFDATA2LSB
_STT_FUNC = 2


class _Section(NamedTuple):
    name: bytes
    offset: int
    size: int
    link: int


def section(elf: bytes, name: str) -> bytes:
    """Return the content of a section.

    :raises UserError: if there is none of that name.
    """
    for each in _sections(elf):
        if each.name == name.encode():
            return elf[each.offset : each.offset + each.size]
    raise UserError(f"this ELF file has no section {name}.")


def functions(elf: bytes) -> frozenset[str]:
    """Return the names of the functions that are defined in a file, by its table of symbols.

    :raises UserError: if the file has no table of symbols.
    """
    sections = _sections(elf)
    table = next((each for each in sections if each.name == b".symtab"), None)
    if table is None:
        raise UserError("this ELF file has no section .symtab.")
    strings = sections[table.link].offset
    found = set()
    # Elf64_Sym: st_name, st_info, st_other, st_shndx, st_value, st_size
    for name, info, _, defined, _, _ in struct.iter_unpack(
        "<IBBHQQ", elf[table.offset : table.offset + table.size // 24 * 24]
    ):
        if info & 0xF == _STT_FUNC and defined:
            start = strings + name
            found.add(elf[start : elf.index(b"\0", start)].decode(errors="replace"))
    return frozenset(found)


def _sections(elf: bytes) -> list[_Section]:
    if not elf.startswith(_MAGIC):
        raise UserError("this is no 64-bit little-endian ELF file.")
    try:
        (table,) = struct.unpack_from("<Q", elf, 0x28)
        size, count, names = struct.unpack_from("<HHH", elf, 0x3A)
        # Elf64_Shdr: sh_name, sh_type, sh_flags, sh_addr, sh_offset, sh_size, sh_link
        headers = [struct.unpack_from("<IIQQQQI", elf, table + number * size) for number in range(count)]
        strings = headers[names][4]
        return [
            _Section(elf[strings + title : elf.index(b"\0", strings + title)], offset, length, link)
            for title, _, _, _, offset, length, link in headers
        ]
    except (struct.error, ValueError, IndexError):
        raise UserError("this ELF file is cut off.") from None
