# SPDX-License-Identifier: GPL-2.0-only
"""The tables are written here as scripts/kallsyms.c writes them; real ones are read by `make matrix`."""

import struct

import pytest

from toolkit.capture import kallsyms
from toolkit.errors import UserError

#: Some tokens stand for more than one letter.
LONG = {0: b"napi_", 1: b"_poll", 2: b"a_token_that_is_long"}
TOKENS = [LONG.get(number, bytes([number]) if 32 <= number < 127 else b"") for number in range(256)]
#: More than the two rows that anything may look like: 1,100 names have five markers.
NAMES = [f"tfiller_{number}" for number in range(1097)] + ["Tnapi_disable", "Dnapi_variable", "wweak_one"]


def _encoded(name: str) -> bytes:
    tokens = name.encode().replace(b"napi_", b"\0").replace(b"_poll", b"\1")
    length = len(tokens)
    return (bytes([length]) if length < 128 else bytes([length & 0x7F | 0x80, length >> 7])) + tokens


def _aligned(data: bytes, align: int) -> bytes:
    return data + bytes(-len(data) % align)


def image(names: list[str], *, align: int, between: bytes = b"") -> bytes:
    """Make a kernel with tables; `between` stands between the markers and the tokens, as in some kernels."""
    encoded, markers = b"", []
    for number, name in enumerate(names):
        if number % 256 == 0:
            markers.append(len(encoded))
        encoded += _encoded(name)
    table, places = b"", []
    for token in TOKENS:
        places.append(len(table))
        table += token + b"\0"
    data = b"\xcc" * 4096 + bytes(64)
    for part in (
        struct.pack("<I", len(names)),
        encoded,
        struct.pack(f"<{len(markers)}I", *markers),
        between,
        table,
        struct.pack("<256H", *places),
    ):
        data = _aligned(data + part, align)
    return data + b"\xcc" * 4096


@pytest.mark.parametrize("align", [4, 8])
@pytest.mark.parametrize("between", [b"", b"\xff\x01\x02" * 1100])
def test_functions_are_the_symbols_of_text(align: int, between: bytes) -> None:
    found = kallsyms.functions(image(NAMES, align=align, between=between))
    assert len(found) == 1099
    assert {"napi_disable", "weak_one", "filler_0", "filler_1096"} <= found
    assert "napi_variable" not in found


def test_name_longer_than_127_has_a_length_of_two_bytes() -> None:
    long = "T" + "x" * 300
    assert long[1:] in kallsyms.functions(image([long, *NAMES], align=8))


def test_kernel_without_tables_is_one_sentence() -> None:
    with pytest.raises(UserError, match="table of the kernel's functions is not found"):
        kallsyms.functions(bytes(10000))


def test_tokens_without_names_are_one_sentence() -> None:
    data = image(NAMES, align=8)
    with pytest.raises(UserError, match="names of the kernel's functions are not found"):
        kallsyms.functions(data.replace(struct.pack("<I", len(NAMES)), bytes(4)))
