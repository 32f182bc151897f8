# SPDX-License-Identifier: GPL-2.0-only
"""Numbers with their nouns, and lists."""

from collections.abc import Sequence


def count(number: int, noun: str) -> str:
    """Return a number with its noun: "1 stall", "2 stalls"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def cpus(number: int | None) -> str:
    """Return how many CPUs a machine has, in words; says so if that is not known."""
    return "an unknown number of CPUs" if number is None else count(number, "CPU")


def listed(parts: Sequence[str]) -> str:
    """Return parts as a list in a sentence: "a", "a and b", "a, b and c"."""
    *some, last = parts
    return f"{', '.join(some)} and {last}" if some else last
