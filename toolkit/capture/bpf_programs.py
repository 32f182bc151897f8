# SPDX-License-Identifier: GPL-2.0-only
"""The names of BPF programs, by an address in their code, of whoever loaded them.

/proc/kallsyms tells where a program begins and not where it ends. BPF_OBJ_GET_INFO_BY_FD tells both
(struct bpf_prog_info of include/uapi/linux/bpf.h, as of Linux 4.20).
"""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from toolkit.capture import loader

_NEXT_ID, _FROM_ID = 11, 13
_INFO = struct.Struct("=8x8s48x16s24xIIQQ")
"""tag, name, number of functions, the same again, where to write their addresses and their lengths."""
_MOST_FUNCTIONS = 256
"""The kernel's limit to the functions of a program: BPF_MAX_SUBPROGS of include/linux/bpf_verifier.h."""


@dataclass(frozen=True, order=True)
class Code:
    """A function of a program: it lies from `start` to before `end`.

    `name` is bpf_prog_TAG_NAME, as /proc/kallsyms has it for a program's first function.
    """

    start: int
    end: int
    name: str


def loaded() -> list[Code]:
    """Return the functions of all programs that the kernel has now, sorted; it takes some ms.

    :return: none, if this user may not ask for them (CAP_SYS_ADMIN).
    """
    return sorted(code for number in _numbers() for code in _of(number))


def name_at(codes: list[Code], address: int) -> str | None:
    """Return the name of the program that an address is in, of those of :func:`loaded`; None if in none."""
    place = bisect.bisect_right(codes, address, key=lambda code: code.start) - 1
    return codes[place].name if place >= 0 and address < codes[place].end else None


def _numbers() -> Iterator[int]:
    """Yield the kernel's number of each program."""
    number = 0
    with contextlib.suppress(OSError):
        while True:
            found = loader.asked(_NEXT_ID, struct.pack("=III", number, 0, 0))
            _, number, _ = struct.unpack("=III", found)
            yield number


def _of(number: int) -> Iterator[Code]:
    """Yield the functions of a program; none, if it is gone, or if the kernel does not tell."""
    starts, lengths = (ctypes.c_uint64 * _MOST_FUNCTIONS)(), (ctypes.c_uint32 * _MOST_FUNCTIONS)()
    places = ctypes.addressof(starts), ctypes.addressof(lengths)
    with contextlib.suppress(OSError):
        program = loader.bpf(_FROM_ID, struct.pack("=III", number, 0, 0))
        try:
            wanted = _INFO.pack(b"", b"", _MOST_FUNCTIONS, _MOST_FUNCTIONS, *places)
            tag, name, count, _, _, _ = _INFO.unpack(loader.info(program, wanted))
        finally:
            os.close(program)
        called = f"bpf_prog_{tag.hex()}_{name.rstrip(bytes(1)).decode(errors='replace')}"
        for start, length in zip(starts[:count], lengths[:count], strict=True):
            if start:
                yield Code(start, start + length, called)
