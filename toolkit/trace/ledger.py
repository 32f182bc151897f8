# SPDX-License-Identifier: GPL-2.0-only
"""What was counted while events were sent: the proof that none is missing, or when some are."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

Ledger: TypeAlias = Mapping[str, Mapping[str, list[int]]]
"""Kind of event -> attempted, delivered, dropped -> a count for each CPU, since the trace began."""

COUNTS = ("attempted", "delivered", "dropped")


def totals(ledger: Ledger) -> dict[str, int]:
    """:return: attempted, delivered and dropped events, of all kinds and CPUs."""
    return {count: sum(sum(kind.get(count, [])) for kind in ledger.values()) for count in COUNTS}


def loss_windows(began: int, notes: Iterable[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Finds when events were dropped.

    :param began: [ns] when the trace began.
    :param notes: the notes of the batches, in order.
    :return: begin and end [ns] of each interval between two drains in which drops grew; those that
        touch are joined.
    """
    windows: list[tuple[int, int]] = []
    before, dropped = began, 0
    for note in notes:
        now, total = int(note["now_ns"]), totals(note["ledger"])["dropped"] if "ledger" in note else dropped
        if total > dropped:
            if windows and windows[-1][1] == before:
                windows[-1] = (windows[-1][0], now)
            else:
                windows.append((before, now))
        before, dropped = now, total
    return windows
