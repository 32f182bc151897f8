# SPDX-License-Identifier: GPL-2.0-only
"""Where the members of kernel structs are, and how they are declared: from BTF, read by libbpf."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from toolkit.errors import UserError

# BTF_KIND_*, include/uapi/linux/btf.h
_POINTER, _ARRAY, _STRUCT, _UNION, _ENUM, _TYPEDEF, _FUNCTION = 2, 3, 4, 5, 6, 8, 12
#: btf_dump_printf_fn_t(ctx, fmt, va_list): a 64-bit architecture passes a va_list as a pointer or a word.
_PRINT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
_MODIFIERS = frozenset({8, 9, 10, 11, 18})  # typedef, volatile, const, restrict, type tag


class _Type(ctypes.Structure):
    """struct btf_type"""

    _fields_ = (("name_off", ctypes.c_uint32), ("info", ctypes.c_uint32), ("size_or_type", ctypes.c_uint32))


class _Member(ctypes.Structure):
    """struct btf_member"""

    _fields_ = (("name_off", ctypes.c_uint32), ("type", ctypes.c_uint32), ("offset", ctypes.c_uint32))


class _Array(ctypes.Structure):
    """struct btf_array"""

    _fields_ = (("type", ctypes.c_uint32), ("index_type", ctypes.c_uint32), ("nelems", ctypes.c_uint32))


class _Enumerator(ctypes.Structure):
    """struct btf_enum"""

    _fields_ = (("name_off", ctypes.c_uint32), ("val", ctypes.c_int32))


class Function(NamedTuple):
    """A function of the kernel: its name, its number in BTF, and how many parameters it has."""

    name: str
    number: int
    parameters: int


class Member(NamedTuple):
    """Where a member of a struct is, and its size, in bytes.

    :param pointer: where in the struct a pointer is, to another struct that has the member; None: to none.
    """

    offset: int
    size: int
    pointer: int | None = None


def _libbpf() -> ctypes.CDLL:
    try:
        lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError:
        raise UserError("libbpf is missing; install it (Debian: apt install libbpf1).") from None
    for name, result, arguments in (
        ("btf__load_vmlinux_btf", ctypes.c_void_p, []),
        ("btf__load_module_btf", ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_void_p]),
        ("btf__parse_raw_split", ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_void_p]),
        ("btf__free", None, [ctypes.c_void_p]),
        ("btf__find_by_name_kind", ctypes.c_int32, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32]),
        ("btf__type_by_id", ctypes.POINTER(_Type), [ctypes.c_void_p, ctypes.c_uint32]),
        ("btf__name_by_offset", ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_uint32]),
        ("btf__resolve_size", ctypes.c_int64, [ctypes.c_void_p, ctypes.c_uint32]),
        ("btf_dump__new", ctypes.c_void_p, [ctypes.c_void_p, _PRINT, ctypes.c_void_p, ctypes.c_void_p]),
        ("btf_dump__dump_type", ctypes.c_int, [ctypes.c_void_p, ctypes.c_uint32]),
        ("btf_dump__free", None, [ctypes.c_void_p]),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


class Btf:
    """The types of the kernel, or of one module and of the kernel under it."""

    def __init__(self, lib: ctypes.CDLL, handle: int) -> None:
        self._lib = lib
        self._handle = handle

    def resolve(self, path: str) -> int | None:
        """Look up ``struct.member.member`` or ``struct``; ``member[1]`` is an element of an array.

        :return: the offset of the member, or the size of the struct, in bytes; None if there is no such name.
        """
        found = self.member(path)
        if found is None:
            return None
        return found.offset if "." in path else found.size

    def member(self, path: str) -> Member | None:
        """Look up a member as `resolve` does; ``struct.pointer->member`` is one of the struct pointed to.

        :return: None if there is no such name.
        """
        before, _, after = path.partition("->")
        struct, *members = before.split(".")
        found = self._walk(self._lib.btf__find_by_name_kind(self._handle, struct.encode(), _STRUCT), members)
        pointer = None
        if found is not None and after:
            type_id, pointer = found
            kind = self._lib.btf__type_by_id(self._handle, self._strip(type_id)).contents
            is_pointer = (kind.info >> 24) & 0x1F == _POINTER
            found = self._walk(self._strip(kind.size_or_type), after.split(".")) if is_pointer else None
        if found is None:
            return None
        type_id, offset = found
        return Member(offset, int(self._lib.btf__resolve_size(self._handle, type_id)), pointer)

    def _walk(self, type_id: int, members: Sequence[str]) -> tuple[int, int] | None:
        """Return the type of a member of a member, and its offset in bytes; None if it is not there."""
        if type_id <= 0:
            return None
        total = 0
        for member in members:
            name, _, element = member.rstrip("]").partition("[")
            found = self._member(type_id, name)
            if found is not None and element:
                found = self._element(*found, int(element))
            if found is None:
                return None
            type_id, bits = found
            total += bits
        return type_id, total // 8

    def has_tracepoint(self, name: str) -> bool:
        """Tell whether there is a raw tracepoint of that name (DEFINE_EVENT in include/trace/bpf_probe.h)."""
        return bool(
            self._lib.btf__find_by_name_kind(self._handle, f"btf_trace_{name}".encode(), _TYPEDEF) > 0
        )

    def function(self, name: str) -> Function | None:
        """Return a function; None if there is none of that name."""
        number = self._lib.btf__find_by_name_kind(self._handle, name.encode(), _FUNCTION)
        if number <= 0:
            return None
        kind = self._lib.btf__type_by_id(self._handle, number).contents
        prototype = self._lib.btf__type_by_id(self._handle, kind.size_or_type).contents
        return Function(name, int(number), prototype.info & 0xFFFF)

    def enumerators(self, enum: str) -> set[str]:
        """Return the names of the values of an enum; empty if there is no such enum."""
        type_id = self._lib.btf__find_by_name_kind(self._handle, enum.encode(), _ENUM)
        if type_id <= 0:
            return set()
        kind = self._lib.btf__type_by_id(self._handle, type_id).contents
        first = ctypes.addressof(kind) + ctypes.sizeof(_Type)
        values = (_Enumerator * (kind.info & 0xFFFF)).from_address(first)
        return {self._lib.btf__name_by_offset(self._handle, value.name_off).decode() for value in values}

    def declaration(self, struct: str) -> str | None:
        """Return C text that declares a struct, and before it each type that the struct needs.

        :param struct: its name without the word struct, such as ``pt_regs``.
        :return: None if BTF has no such struct, or libbpf cannot write it as C.
        """
        type_id = self._lib.btf__find_by_name_kind(self._handle, struct.encode(), _STRUCT)
        if type_id <= 0:
            return None
        libc = ctypes.CDLL(None)
        parts: list[bytes] = []

        def take(_: int | None, form: int, arguments: int) -> None:
            part = ctypes.create_string_buffer(1 << 12)
            libc.vsnprintf(
                part, ctypes.c_size_t(len(part)), ctypes.c_void_p(form), ctypes.c_void_p(arguments)
            )
            parts.append(part.value)

        # Kept in a variable: libbpf calls it until the dump is freed.
        printer = _PRINT(take)
        dump = self._lib.btf_dump__new(self._handle, printer, None, None)
        if not dump:
            return None
        try:
            failed = self._lib.btf_dump__dump_type(dump, type_id)
        finally:
            self._lib.btf_dump__free(dump)
        return None if failed else b"".join(parts).decode()

    def _member(self, type_id: int, name: str) -> tuple[int, int] | None:
        """Return a member's type and its offset in bits; search anonymous structs and unions, too."""
        type_id = self._strip(type_id)
        kind = self._lib.btf__type_by_id(self._handle, type_id).contents
        if (kind.info >> 24) & 0x1F not in (_STRUCT, _UNION):
            return None
        bit_fields, count = kind.info >> 31, kind.info & 0xFFFF
        first = ctypes.addressof(kind) + ctypes.sizeof(_Type)
        for member in (_Member * count).from_address(first):
            offset = member.offset & 0xFFFFFF if bit_fields else member.offset
            found = self._lib.btf__name_by_offset(self._handle, member.name_off)
            if found == name.encode():
                return member.type, offset
            if not found and (inner := self._member(member.type, name)):
                return inner[0], offset + inner[1]
        return None

    def _element(self, type_id: int, offset: int, number: int) -> tuple[int, int] | None:
        """Return the type of an array's elements and the offset of one in bits; None if it is not there.

        :param offset: of the array, in bits.
        """
        kind = self._lib.btf__type_by_id(self._handle, self._strip(type_id)).contents
        if (kind.info >> 24) & 0x1F != _ARRAY:
            return None
        array = _Array.from_address(ctypes.addressof(kind) + ctypes.sizeof(_Type))
        if number >= array.nelems:
            return None
        size = int(self._lib.btf__resolve_size(self._handle, array.type))
        return array.type, offset + 8 * size * number

    def _strip(self, type_id: int) -> int:
        while True:
            kind = self._lib.btf__type_by_id(self._handle, type_id).contents
            if (kind.info >> 24) & 0x1F not in _MODIFIERS:
                return type_id
            type_id = kind.size_or_type


@contextmanager
def kernel_btf() -> Iterator[Btf]:
    """Open the BTF of the running kernel.

    :raises UserError: if the kernel carries no BTF.
    """
    lib = _libbpf()
    handle = _load_kernel(lib)
    try:
        yield Btf(lib, handle)
    finally:
        lib.btf__free(handle)


def _load_kernel(lib: ctypes.CDLL) -> int:
    handle: int | None = lib.btf__load_vmlinux_btf()
    if not handle:
        raise UserError("this kernel has no BTF (CONFIG_DEBUG_INFO_BTF); use a kernel that has.")
    return handle


@contextmanager
def parse(data: bytes, base: Btf | None = None) -> Iterator[Btf]:
    """Read the types in a section .BTF.

    :param base: the kernel's types, under those of a module.
    :raises UserError: if they cannot be read.
    """
    lib = _libbpf()
    # libbpf 1.1 (Debian 12) reads files only.
    file = os.memfd_create("btf")
    try:
        with open(file, "wb", closefd=False) as stream:
            stream.write(data)
        handle = lib.btf__parse_raw_split(f"/proc/self/fd/{file}".encode(), base._handle if base else None)
    finally:
        os.close(file)
    if not handle:
        raise UserError(
            f"the BTF cannot be read (errno {ctypes.get_errno()}); a newer kernel may need a newer libbpf."
        )
    try:
        yield Btf(lib, handle)
    finally:
        lib.btf__free(handle)


@contextmanager
def module_btf(module: str) -> Iterator[Btf]:
    """Open the BTF of a loaded module.

    :raises UserError: if the kernel or the module carries no BTF.
    """
    lib = _libbpf()
    base = _load_kernel(lib)
    handle = lib.btf__load_module_btf(module.encode(), base)
    if not handle and ctypes.get_errno() in (errno.ENOENT, 0):
        lib.btf__free(base)
        raise UserError(
            f"module {module} carries no BTF, so its private structs cannot be read; "
            f"build it with BTF (make modules with vmlinux beside the headers and pahole installed)."
        )
    if not handle:
        lib.btf__free(base)
        raise UserError(f"the BTF of module {module} cannot be read: errno {ctypes.get_errno()}.")
    try:
        yield Btf(lib, handle)
    finally:
        lib.btf__free(handle)
        lib.btf__free(base)
