# SPDX-License-Identifier: GPL-2.0-only
import struct
from pathlib import Path

import pytest

from toolkit.capture import elf
from toolkit.errors import UserError

TRUE = Path("/bin/true").read_bytes()
FUNCTION, OBJECT = 2, 1


def build(**sections: bytes) -> bytes:
    """Make an ELF file of these sections; `symtab` is linked to `strtab`."""
    names = ["", *(f".{name}" for name in sections), ".shstrtab"]
    titles = b"".join(name.encode() + b"\0" for name in names)
    body, headers, place = b"", [bytes(64)], 64
    for number, content in enumerate([*sections.values(), titles], 1):
        link = names.index(".strtab") if names[number] == ".symtab" else 0
        title = titles.index(names[number].encode() + b"\0")
        headers.append(struct.pack("<IIQQQQIIQQ", title, 1, 0, 0, place, len(content), link, 0, 1, 0))
        body += content
        place += len(content)
    head = bytearray(64)
    head[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", head, 0x28, place)
    struct.pack_into("<HHH", head, 0x3A, 64, len(headers), len(headers) - 1)
    return bytes(head) + body + b"".join(headers)


def symbols(
    *functions: str, variables: tuple[str, ...] = (), needs: tuple[str, ...] = ()
) -> tuple[bytes, bytes]:
    """Make a table of symbols and its strings; `needs` are functions of others."""
    strings, table = b"\0", b""
    for name, kind, defined in [
        *((name, FUNCTION, 1) for name in functions),
        *((name, OBJECT, 1) for name in variables),
        *((name, FUNCTION, 0) for name in needs),
    ]:
        table += struct.pack("<IBBHQQ", len(strings), kind, 0, defined, 0, 0)
        strings += name.encode() + b"\0"
    return table, strings


def module(*functions: str) -> bytes:
    """Make an ELF file with functions."""
    table, strings = symbols(*functions)
    return build(symtab=table, strtab=strings)


def test_section_is_found_by_its_name() -> None:
    assert elf.section(TRUE, ".interp").startswith(b"/lib")
    with pytest.raises(UserError, match=r"no section \.BTF"):
        elf.section(TRUE, ".BTF")


def test_functions_are_those_that_the_file_defines() -> None:
    table, strings = symbols("poll", "refill.isra.0", variables=("debug",), needs=("printk",))
    found = elf.functions(build(symtab=table, strtab=strings))
    assert found == {"poll", "refill.isra.0"}


def test_file_without_symbols_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"no section \.symtab"):
        elf.functions(build(text=b"x"))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [(b"MZ" * 40, "no 64-bit little-endian ELF file"), (TRUE[:3000], "cut off"), (TRUE[:20], "cut off")],
)
def test_other_file_is_one_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        elf.section(data, ".BTF")
