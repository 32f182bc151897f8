# SPDX-License-Identifier: GPL-2.0-only
"""What was counted while events were sent: the proof that none is missing, or when some are."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from toolkit.event import KIND

Ledger: TypeAlias = Mapping[str, Mapping[str, list[int]]]
"""Kind of event -> attempted, delivered, dropped -> a count for each CPU, since the trace began."""

_WHY = "a batch is missing, repeated or out of order"

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


def contradiction(ledger: Ledger, read: NDArray[np.int64]) -> str | None:
    """Compare what a ledger says was delivered with the events that were read.

    :param read: how many events were read since the trace began, by number of their kind.
    :return: None if they are the same, else the first difference in words.
    """
    for name, counts in ledger.items():
        if len({len(counts[count]) for count in COUNTS}) > 1:
            return f"the ledger of {name} has not one number for each CPU"
    # A newer toolkit may know more kinds: theirs are compared together.
    unnamed = int(read.sum())
    for name, number in KIND.items():
        delivered = sum(ledger[name]["delivered"]) if name in ledger else 0
        if delivered != read[number]:
            return f"the ledger has {delivered:,} {name} events, but there are {read[number]:,}: {_WHY}"
        unnamed -= delivered
    delivered = sum(sum(counts["delivered"]) for name, counts in ledger.items() if name not in KIND)
    if delivered != unnamed:
        return f"the ledger has {delivered:,} events of other kinds, but there are {unnamed:,}: {_WHY}"
    return None
