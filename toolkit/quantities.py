# SPDX-License-Identifier: GPL-2.0-only
"""Times and sizes as people write them."""

import re
from typing import NamedTuple

_NS = {"us": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9, "": 1e9}
_BYTES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "": 1}


def nanoseconds(text: str) -> int:
    """Read a time: 200ms, 1s, 10m, or 0.5, which is in seconds.

    :raises ValueError: if it is none; the sentence says what one looks like.
    """
    return round(_read(text, _NS, "a time such as 1s or 200ms"))


def spelled(ns: int) -> str:
    """Return a time as `nanoseconds` reads it: 200ms, 1s, or 0.001us."""
    for unit, size in (("s", 10**9), ("ms", 10**6), ("us", 1000)):
        if ns % size == 0:
            return f"{ns // size}{unit}"
    return f"{ns // 1000}.{ns % 1000:03}us"


def size(text: str) -> int:
    """Read a size in bytes: 64M, 1G, 4096.

    :raises ValueError: if it is none; the sentence says what one looks like.
    """
    return round(_read(text, _BYTES, "a size such as 64M or 1G"))


class Amount(NamedTuple):
    """A time [ns] or a size [bytes]; the other one is None."""

    ns: int | None
    bytes: int | None


def amount(text: str) -> Amount:
    """Read a time or a size: 10m is ten minutes, 10M are ten MiB.

    :raises ValueError: if it is neither; the sentence says what one looks like.
    """
    try:
        if text.strip()[-1:] in ("K", "M", "G"):
            return Amount(None, size(text))
        return Amount(nanoseconds(text), None)
    except ValueError:
        raise ValueError(f"{text!r} is neither a time such as 10m nor a size such as 256M.") from None


def _read(text: str, units: dict[str, float] | dict[str, int], kind: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([a-zA-Z]*)", text.strip())
    if not found or found[2] not in units:
        raise ValueError(f"{text!r} is not {kind}.")
    return float(found[1]) * units[found[2]]
