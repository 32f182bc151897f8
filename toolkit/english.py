# SPDX-License-Identifier: GPL-2.0-only
"""Numbers with their nouns, and lists."""

from collections.abc import Sequence


def count(number: int, noun: str) -> str:
    """Return a number with its noun: "1 stall", "2 stalls"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def cpus(number: int | None) -> str:
    """Return how many CPUs a machine has, in words; says so if that is not known."""
    return "an unknown number of CPUs" if number is None else count(number, "CPU")


def duration(nanoseconds: float) -> str:
    """Return a length of time in the largest unit of which it is one or more: "10 ms", "1.5 s"."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.9g} {unit}"
    return f"{nanoseconds:.9g} ns"


def listed(parts: Sequence[str]) -> str:
    """Return parts as a list in a sentence: "a", "a and b", "a, b and c"."""
    *some, last = parts
    return f"{', '.join(some)} and {last}" if some else last
