# SPDX-License-Identifier: GPL-2.0-only
"""Members are looked up in types that are laid out here as the kernel's are (include/uapi/linux/btf.h)."""

import ctypes
import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from toolkit.capture import btf
from toolkit.capture.btf import Btf, Function, Member, _Type
from toolkit.errors import UserError

INT, POINTER, ARRAY, STRUCT, UNION, ENUM, TYPEDEF, CONST = 1, 2, 3, 4, 5, 6, 8, 10
FUNCTION, PROTOTYPE = 12, 13
Members = list[tuple[str, int, int]]


class Types:
    """What libbpf would answer. A type: kind, name, size or type, and members of name, type and bit."""

    def __init__(self, *types: tuple[int, str, int, Members], bit_fields: bool = False) -> None:
        self._names = [""]
        self._types: list[Any] = []
        self._by_name = {}
        self.freed: list[int] = []
        for number, (kind, name, size, members) in enumerate(types, 1):
            info = kind << 24 | len(members) | bit_fields << 31
            words = [self._name(name), info, size]
            for member, of, offset in members:
                words += [self._name(member), of, offset]
            self._types.append((ctypes.c_uint32 * len(words))(*words))
            self._by_name[name, kind] = number

    def _name(self, name: str) -> int:
        self._names.append(name)
        return len(self._names) - 1

    def btf__find_by_name_kind(self, _: int, name: bytes, kind: int) -> int:
        return self._by_name.get((name.decode(), kind), -2)

    def btf__type_by_id(self, _: int, number: int) -> Any:
        return ctypes.cast(self._types[number - 1], ctypes.POINTER(_Type))

    def btf__name_by_offset(self, _: int, offset: int) -> bytes:
        return self._names[offset].encode()

    def btf__resolve_size(self, _: int, number: int) -> int:
        return int(self._types[number - 1][2])

    def btf__free(self, handle: int) -> None:
        self.freed.append(handle)


TYPES: tuple[tuple[int, str, int, Members], ...] = (
    (INT, "int", 4, []),
    (STRUCT, "napi_struct", 16, [("state", 1, 0), ("weight", 1, 64)]),
    (TYPEDEF, "napi_t", 2, []),
    (CONST, "", 3, []),
    (UNION, "", 16, [("rq", 1, 0), ("", 6, 64)]),
    (STRUCT, "", 8, [("inner", 1, 0), ("last", 1, 32)]),
    (STRUCT, "queue", 64, [("dev", 1, 0), ("napi", 4, 128), ("", 5, 320)]),
)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("queue", 64),
        ("queue.dev", 0),
        ("queue.napi", 16),
        # Through const and a typedef.
        ("queue.napi.weight", 24),
        # In an anonymous union, and in an anonymous struct of that.
        ("queue.rq", 40),
        ("queue.last", 52),
        ("queue.missing", None),
        ("queue.dev.missing", None),
        ("queue.napi.missing", None),
        ("no_such_struct", None),
        ("no_such_struct.member", None),
    ],
)
def test_path_is_an_offset_or_a_size_in_bytes(path: str, value: int | None) -> None:
    lib: Any = Types(*TYPES)
    assert Btf(lib, 1).resolve(path) == value


def test_element_of_an_array_is_a_member() -> None:
    """After an array's type follow its elements' type, its index's and their number."""
    lib: Any = Types(
        (INT, "int", 4, []),
        (STRUCT, "ring", 24, [("size", 1, 32)]),
        (ARRAY, "", 0, [("", 0, 0)]),
        (STRUCT, "queue", 64, [("dev", 1, 0), ("rings", 3, 64)]),
    )
    lib._types[2][3:] = [2, 1, 2]
    types = Btf(lib, 1)
    found = [types.member(f"queue.rings[{number}].size") for number in (0, 1, 2)]
    assert found == [Member(12, 4), Member(36, 4), None]
    assert types.member("queue.dev[0]") is None
    assert types.resolve("queue.rings[1].size") == 36


def test_member_of_a_struct_that_a_pointer_leads_to() -> None:
    lib: Any = Types(
        (INT, "int", 4, []),
        (STRUCT, "shared", 64, [("consumer", 1, 0), ("producer", 1, 32)]),
        (POINTER, "", 4, []),
        (CONST, "", 2, []),
        (STRUCT, "queue", 64, [("dev", 1, 0), ("ring", 3, 192)]),
    )
    types = Btf(lib, 1)
    assert types.member("queue.ring->producer") == Member(4, 4, pointer=24)
    assert types.member("queue.ring->missing") is None
    assert types.member("queue.dev->producer") is None
    assert types.member("queue.missing->producer") is None


def test_offset_in_a_struct_with_bit_fields_leaves_their_width_out() -> None:
    """The upper 8 bits of an offset are the width of the field then."""
    lib: Any = Types((INT, "int", 4, []), (STRUCT, "s", 8, [("flag", 1, 3 << 24 | 40)]), bit_fields=True)
    assert Btf(lib, 1).resolve("s.flag") == 5


def test_function_has_the_parameters_of_its_prototype() -> None:
    lib: Any = Types(
        (INT, "int", 4, []),
        (PROTOTYPE, "", 1, [("napi", 1, 0), ("repoll", 1, 0)]),
        (FUNCTION, "__napi_poll", 2, []),
    )
    assert Btf(lib, 1).function("__napi_poll") == Function("__napi_poll", 3, 2)
    assert Btf(lib, 1).function("int") is None


def test_tracepoint_is_a_typedef_of_its_handler() -> None:
    lib: Any = Types((INT, "int", 4, []), (TYPEDEF, "btf_trace_napi_poll", 1, []))
    assert Btf(lib, 1).has_tracepoint("napi_poll")
    assert not Btf(lib, 1).has_tracepoint("napi")


def section(*types: tuple[int, str, Members], base: bytes = b"") -> bytes:
    """Make a section .BTF that libbpf takes: a type `int` is 1, those given are 2 and so on.

    :param types: kind, name, and members of name, type and bit; or values of name, value and 0.
    :param base: the kernel's section under that of a module, whose strings and types come before.
    """
    before = int.from_bytes(base[20:24], "little")
    strings = b"" if base else b"\0int\0"
    body = b"" if base else struct.pack("<IIII", 1, INT << 24, 4, 1 << 24 | 32)
    for kind, name, members in types:
        size = 4 if kind == ENUM else max((bit // 8 + 4 for _, _, bit in members), default=0)
        if kind == TYPEDEF:
            size = 1
        body += struct.pack("<III", before + len(strings), kind << 24 | len(members), size)
        strings += name.encode() + b"\0"
        for member, number, bit in members:
            words = (before + len(strings), number, bit)[: 2 if kind == ENUM else 3]
            body += struct.pack(f"<{len(words)}I", *words)
            strings += member.encode() + b"\0"
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(strings)) + body + strings


def _has_libbpf() -> bool:
    try:
        ctypes.CDLL("libbpf.so.1")
    except OSError:
        return False
    return True


needs_libbpf = pytest.mark.skipif(not _has_libbpf(), reason="libbpf1 is not installed")
SMALL = section((ENUM, "colour", [("RED", 0, 0), ("BLUE", 7, 0)]))


@needs_libbpf
def test_types_of_a_file_are_read_from_memory() -> None:
    with btf.parse(SMALL) as types:
        assert types.enumerators("colour") == {"RED", "BLUE"}
        assert types.enumerators("shape") == set()


@needs_libbpf
def test_bytes_that_are_no_types_are_one_sentence() -> None:
    with pytest.raises(UserError, match="the BTF cannot be read"), btf.parse(b"no types"):
        pass


def _library(base: int, handle: int) -> Types:
    types = Types(*TYPES)
    lib: Any = types
    lib.btf__load_vmlinux_btf = lambda: base
    lib.btf__load_module_btf = lambda module, under: handle if (module, under) == (b"qlge", base) else 0
    return types


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Put something in libbpf's place."""
    return lambda lib: monkeypatch.setattr(btf, "_libbpf", lambda: lib)


def test_btf_of_a_module_and_of_the_kernel_are_given_back(library: Callable[[Any], None]) -> None:
    lib = _library(10, 20)
    library(lib)
    with btf.module_btf("qlge") as types:
        assert types.resolve("queue.napi") == 16
        assert lib.freed == []
    assert lib.freed == [20, 10]


@pytest.mark.parametrize(
    ("base", "handle", "errno", "sentence", "freed"),
    [
        (0, 0, 0, "this kernel has no BTF", []),
        (10, 0, 2, "module qlge carries no BTF", [10]),
        (10, 0, 13, "the BTF of module qlge cannot be read: errno 13", [10]),
    ],
)
def test_missing_btf_is_one_sentence(
    library: Callable[[Any], None], base: int, handle: int, errno: int, sentence: str, freed: list[int]
) -> None:
    lib = _library(base, handle)
    library(lib)
    ctypes.set_errno(errno)
    with pytest.raises(UserError, match=sentence), btf.module_btf("qlge"):
        pass
    assert lib.freed == freed


def test_missing_libbpf_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr(btf, "ctypes", SimpleNamespace(CDLL=fail))
    with pytest.raises(UserError, match="libbpf is missing; install it"), btf.module_btf("qlge"):
        pass
