# SPDX-License-Identifier: GPL-2.0-only
"""How sentences count."""


def count(number: int, noun: str) -> str:
    """Return a number with its noun: "1 stall", "2 stalls"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
