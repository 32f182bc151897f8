# SPDX-License-Identifier: GPL-2.0-only
"""C types of ctypes as JSON, and back: what a map's keys and leaves are made of."""

from __future__ import annotations

import ctypes
from typing import Any

_PLAIN: dict[str, Any] = {
    each._type_: each
    for each in (
        ctypes.c_char,
        ctypes.c_byte,
        ctypes.c_ubyte,
        ctypes.c_short,
        ctypes.c_ushort,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_long,
        ctypes.c_ulong,
    )
}


def described(of: Any) -> Any:
    """Return a type as JSON: a letter for a number, ``[type, length]`` for an array, ``{name: type}`` for a
    struct; None for none.

    :raises TypeError: if the type, or a member, is of none of these.
    """
    if of is None or of in _PLAIN.values():
        return of and of._type_
    if issubclass(of, ctypes.Array):
        return [described(of._type_), of._length_]
    if issubclass(of, ctypes.Structure):
        return {name: described(member) for name, member in of._fields_}
    raise TypeError(f"{of} is no number, array or struct")


def made(description: Any) -> Any:
    """Return the type that `described` wrote; members stand where C puts them."""
    if description is None or isinstance(description, str):
        return description and _PLAIN[description]
    if isinstance(description, list):
        element, length = description
        return made(element) * length
    fields = [(name, made(member)) for name, member in description.items()]
    return type("Struct", (ctypes.Structure,), {"_fields_": fields})
