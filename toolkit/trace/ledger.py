# SPDX-License-Identifier: GPL-2.0-only
"""The counts of events that were sent: the proof that none is missing, or when some are."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from toolkit.event import KIND

COUNTS = ("attempted", "delivered", "dropped")

Ledger: TypeAlias = Mapping[str, NDArray[np.int64]]
"""Kind of event -> a row for each of COUNTS, with a number for each CPU, since the trace began."""

Changes: TypeAlias = Mapping[str, Mapping[str, Sequence[int]]]
"""Kind of event -> `cpu`, the CPUs that counted since the batch before, and by how much: each of COUNTS."""

MOST_KINDS = 256
MOST = 1 << 62

# Kinds of a driver's own had names of their own before event.h numbered them.
_NAMED = {name: number for name, number in KIND.items() if not name.startswith("own_")}
_NONE = np.zeros((len(COUNTS), 0), np.int64)
_WHY = "a batch is missing, repeated or out of order"


def totals(ledger: Ledger) -> dict[str, int]:
    """Return attempted, delivered and dropped events, of all kinds and CPUs."""
    sums = sum((counts.sum(axis=1) for counts in ledger.values()), np.zeros(len(COUNTS), np.int64))
    return dict(zip(COUNTS, sums.tolist(), strict=True))


def whole(counts: Mapping[str, Mapping[str, Sequence[int]]]) -> Ledger:
    """Make a ledger from lists of counts since the trace began, as a batch of format 1 has them.

    :param counts: kind of event -> name of a count -> numbers, one for each CPU; each name in COUNTS.
    :return: the same numbers as an array for each kind.
    :raises ValueError: if the lists of a kind do not have the same length.
    """
    return {kind: _rows(kind, lists) for kind, lists in counts.items()}


def changes(ledger: Ledger, before: Ledger) -> Changes:
    """Return what a ledger has counted since another one, which has no more CPUs."""
    found = {}
    for kind, counts in ledger.items():
        more = counts - widened(before.get(kind, _NONE), counts.shape[1])
        if len(cpus := np.flatnonzero(more.any(axis=0))):
            columns = zip(COUNTS, more[:, cpus].tolist(), strict=True)
            found[kind] = {"cpu": cpus.tolist(), **dict(columns)}
    return found


def changed(ledger: Ledger, changes: Changes) -> Ledger:
    """Return a ledger after the changes of the next batch.

    :raises ValueError: if they cannot be changes of this ledger.
    """
    found = dict(ledger)
    for kind, lists in changes.items():
        cpus, more = np.array(lists["cpu"], np.intp), _rows(kind, lists)
        if more.shape[1] != len(cpus) or (np.diff(cpus) <= 0).any():
            raise ValueError(f"the ledger of {kind} has not one number for each CPU")
        before = found.get(kind, _NONE)
        now = widened(before, max(before.shape[1], int(cpus.max(initial=-1)) + 1))
        now[:, cpus] += more
        if now.min(initial=0) < 0 or now.max(initial=0) > MOST:
            raise ValueError(f"the ledger of {kind} counts down below 0, or too far")
        found[kind] = now
    if len(found) > MOST_KINDS:
        raise ValueError(f"the ledger has more than {MOST_KINDS} kinds of events")
    return found


def widened(counts: NDArray[np.int64], cpus: int) -> NDArray[np.int64]:
    """Return a copy of the counts of a kind for so many CPUs; those that it lacks have counted nothing."""
    found = np.zeros((len(COUNTS), cpus), np.int64)
    found[:, : counts.shape[1]] = counts
    return found


def _rows(kind: str, lists: Mapping[str, Sequence[int]]) -> NDArray[np.int64]:
    try:
        return np.array([lists[count] for count in COUNTS], np.int64)
    except ValueError:
        raise ValueError(f"the ledger of {kind} has not one number for each CPU") from None


def lists(ledger: Ledger) -> dict[str, dict[str, list[int]]]:
    """Return the counts of a ledger as lists, which `whole` takes."""
    return {kind: dict(zip(COUNTS, counts.tolist(), strict=True)) for kind, counts in ledger.items()}


def added(ledger: Ledger, more: Ledger) -> Ledger:
    """Return the sums of two ledgers."""
    found = dict(ledger)
    for kind, counts in more.items():
        before = found.get(kind, _NONE)
        cpus = max(before.shape[1], counts.shape[1])
        found[kind] = widened(before, cpus) + widened(counts, cpus)
    return found


def loss_windows(began: int, drains: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Find the times in which events were dropped.

    :param began: [ns] when the trace began.
    :param drains: of each batch, in order: when the ring was drained [ns], and how many events were dropped
        since the trace began.
    :return: begin and end [ns] of each interval between two drains in which drops grew; intervals that touch
        are joined.
    """
    windows: list[tuple[int, int]] = []
    before, dropped = began, 0
    for now, total in drains:
        if total > dropped:
            if windows and windows[-1][1] == before:
                windows[-1] = (windows[-1][0], now)
            else:
                windows.append((before, now))
        before, dropped = now, total
    return windows


def contradiction(delivered: Mapping[str, int], read: NDArray[np.int64]) -> str | None:
    """Compare what a ledger says was delivered with the events that were read.

    :param delivered: how many events of each kind, since the trace began.
    :param read: how many events were read since then, by number of their kind.
    :return: None if they are the same, else the first difference in words.
    """
    left, by_number = dict(delivered), read.tolist()
    # A newer toolkit may know more kinds: theirs are compared together.
    unnamed = sum(by_number)
    for name, number in _NAMED.items():
        said = left.pop(name, 0)
        if said != by_number[number]:
            return f"the ledger has {said:,} {name} events, but there are {by_number[number]:,}: {_WHY}"
        unnamed -= said
    if (said := sum(left.values())) != unnamed:
        return f"the ledger has {said:,} events of other kinds, but there are {unnamed:,}: {_WHY}"
    return None
