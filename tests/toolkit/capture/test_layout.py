# SPDX-License-Identifier: GPL-2.0-only
import ctypes

import pytest

from toolkit.capture import layout


class _Name(ctypes.Structure):
    _fields_ = (("netns", ctypes.c_uint32), ("name", ctypes.c_char * 16))


class _Device(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_uint8),
        ("of", _Name),
        ("seen", ctypes.c_uint64 * 2),
        ("rank", ctypes.c_int16),
    )


def test_a_type_is_the_same_after_json() -> None:
    described = layout.described(_Device)
    assert described == {"kind": "B", "of": {"netns": "I", "name": ["c", 16]}, "seen": ["L", 2], "rank": "h"}
    again = layout.made(described)
    assert ctypes.sizeof(again) == ctypes.sizeof(_Device)
    for name in ("kind", "of", "seen", "rank"):
        assert getattr(again, name).offset == getattr(_Device, name).offset
    device = _Device(kind=3, of=_Name(7, b"eth1"), rank=-1)
    read = again.from_buffer_copy(device)
    assert (read.kind, read.of.netns, read.of.name, read.rank) == (3, 7, b"eth1", -1)


@pytest.mark.parametrize("kind", [None, ctypes.c_uint32])
def test_a_number_and_nothing_are_themselves(kind: type | None) -> None:
    assert layout.made(layout.described(kind)) is kind


def test_what_it_does_not_know_is_refused() -> None:
    class Either(ctypes.Union):
        _fields_ = (("a", ctypes.c_int),)

    with pytest.raises(TypeError, match="Either"):
        layout.described(Either)
