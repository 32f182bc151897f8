# SPDX-License-Identifier: GPL-2.0-only
"""The names of a kernel's functions, from the tables that the kernel itself has (kernel/kallsyms.c).

A distribution strips vmlinux, so these tables are the only list of its functions. scripts/kallsyms.c writes
them: each name is its length and as many tokens of one byte; a table says what each token stands for, and
markers say where each 256th name begins.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import numpy as np

from toolkit.errors import UserError

#: The tokens of the digits: each digit is a token of itself.
_DIGITS = b"".join(b"%d\0" % digit for digit in range(10))
#: How far before the tokens the markers may begin: in some kernels a table of numbers is between them.
_REACH = 4 << 20
#: The longest that 256 names may be, in bytes: KSYM_NAME_LEN is 512.
_LONGEST = 256 * 512


def functions(kernel: bytes) -> frozenset[str]:
    """Return the names of a kernel's functions.

    :param kernel: the unpacked kernel (toolkit.capture.vmlinux).
    :raises UserError: if the tables are not found.
    """
    found = _tokens(kernel)
    if found is None:
        raise UserError(
            "the table of the kernel's functions is not found in its image (CONFIG_KALLSYMS); "
            "use a kernel that has it, of a 64-bit little-endian machine."
        )
    start, tokens = found
    place = _names(kernel, start)
    if place is None:
        raise UserError(
            "the names of the kernel's functions are not found in its image; its tables may be newer than "
            "this toolkit."
        )
    # The first letter is the type; t and T are text, w and W are weak.
    texts = (b"".join([tokens[token] for token in name]) for name in _walk(kernel, *place))
    return frozenset(text[1:].decode(errors="replace") for text in texts if text[:1] in b"tTwW")


def _tokens(kernel: bytes) -> tuple[int, Sequence[bytes]] | None:
    """Return where the table of the 256 tokens begins, and the tokens; None if there is none.

    Behind them stands the place of each in the table: this shows that it is the table, and where it begins.
    """
    digits = kernel.find(_DIGITS)
    while digits >= 0:
        second = digits
        for _ in range(ord("0") - 1):
            second = kernel.rfind(b"\0", 0, second - 1) + 1
        places, end = [], second
        for _ in range(255):
            places.append(end)
            end = kernel.find(b"\0", end) + 1
        for align in (4, 8):
            index = -(-end // align) * align
            if index + 512 > len(kernel):
                continue
            offsets = struct.unpack_from("<256H", kernel, index)
            start = second - offsets[1]
            if offsets[0] == 0 and [start + offset for offset in offsets[1:]] == places:
                return start, [kernel[at : kernel.index(b"\0", at)] for at in (start, *places)]
        digits = kernel.find(_DIGITS, digits + 1)
    return None


def _names(kernel: bytes, tokens: int) -> tuple[int, int] | None:
    """Return where the names begin, and how many they are; None if they are not found.

    The markers, before the tokens, are the longest row of numbers that rise by the length of 256 names. The
    names end where the markers begin, and their number stands before them.
    """
    end = tokens & ~3
    begin = max(0, end - _REACH) & ~3
    words = np.frombuffer(kernel, "<u4", (end - begin) // 4, begin).astype(np.int64)
    steps = np.diff(words)
    rising = np.concatenate(([0], (steps > 256) & (steps < _LONGEST), [0])).astype(np.int8)
    edges = np.flatnonzero(np.diff(rising))
    rows = [(last - first, first, last) for first, last in zip(edges[::2], edges[1::2], strict=True)]
    rows = [row for row in rows if words[row[1]] == 0]
    if not rows:
        return None
    _, first, last = max(rows)
    markers = [int(word) for word in words[first : last + 1]]
    # What follows the markers may look like another one or two.
    for _ in range(min(3, len(markers) - 1)):
        top = begin + 4 * int(first) - markers[-1]
        for start in range(top & ~3, max(8, top - _LONGEST), -4):
            if count := _count(kernel, start, len(markers)):
                length = sum(len(name) + 1 + (len(name) > 127) for name in _walk(kernel, start, 256))
                if length == markers[1]:
                    return start, count
        markers.pop()
    return None


def _count(kernel: bytes, names: int, markers: int) -> int | None:
    """Return the number that stands before the names, if there are so many markers for it."""
    for place in (names - 4, names - 8):
        (count,) = struct.unpack_from("<I", kernel, place)
        if (markers - 1) * 256 < count <= markers * 256 and not any(kernel[place + 4 : names]):
            return int(count)
    return None


def _walk(kernel: bytes, place: int, count: int) -> Iterator[bytes]:
    """Yield the tokens of names that follow each other; a length above 127 has two bytes."""
    for _ in range(count):
        length = kernel[place]
        place += 1
        if length > 127:
            length = length & 0x7F | kernel[place] << 7
            place += 1
        yield kernel[place : place + length]
        place += length
