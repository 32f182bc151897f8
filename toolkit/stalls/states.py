# SPDX-License-Identifier: GPL-2.0-only
"""From events to the intervals in which a queue is in a state."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from toolkit.drivers import Driver, State
from toolkit.event import ALL_QUEUES
from toolkit.stalls import rules
from toolkit.stalls.scan import Queue, Scan
from toolkit.trace.reader import Columns, TraceReader

COLUMNS = {"queue": np.intp, "state": "str", "start": np.int64, "end": np.int64, "open": np.bool_}


def intervals(reader: TraceReader, drivers: Sequence[Driver], scan: Scan) -> pd.DataFrame:
    """Finds when each queue is in each state, exactly, in whatever order the events were written.

    Only the batches in which a state may end are read again.

    :param reader: the trace that was scanned.
    :param drivers: those of the trace, in its order.
    :param scan: what the scan found.
    :return: columns queue (index in scan.queues), state, start, end [ns], open; sorted by start. An open one
        ends with the trace.
    """
    parts = [pd.DataFrame({name: np.empty(0, dtype) for name, dtype in COLUMNS.items()})]
    for number, driver in enumerate(drivers):
        begins = {state.name: _by_queue(scan, number, state.name) for state in driver.states}
        ends = _ends(reader, driver, scan, begins)
        for state in driver.states:
            for queue, moments in begins[state.name].items():
                part = _pair(moments, ends[state.name][queue], scan.ended)
                parts.append(part.assign(queue=queue, state=state.name))
    found = pd.concat([part for part in parts if len(part)] or parts)
    return found.sort_values(["start", "queue"], kind="stable", ignore_index=True)[list(COLUMNS)]


def same_device(queues: Sequence[Queue], queue: int) -> list[int]:
    """:return: the queues that an event of a queue is about: itself or, for ALL_QUEUES, all of the device."""
    asked = queues[queue]
    if asked.queue != ALL_QUEUES:
        return [queue]
    return [index for index, each in enumerate(queues) if each[:2] == asked[:2] and each.queue != ALL_QUEUES]


def belonging(queue: Queue, columns: Columns) -> NDArray[np.intp]:
    """:return: the rows of the events that are about a queue."""
    number = columns["queue"]
    mine = (number == queue.queue) | (number == ALL_QUEUES)
    mine &= columns["ifindex"] == queue.ifindex
    mine &= columns["driver"] == queue.driver
    return np.flatnonzero(mine)


def _by_queue(scan: Scan, number: int, state: str) -> dict[int, NDArray[np.int64]]:
    """:return: queue -> [ns] the moments of the events that begin a state, ascending, without repetition."""
    begins = scan.begins[number, state]
    found: dict[int, list[NDArray[np.int64]]] = {}
    for queue, moments in begins.groupby("queue")["moment"]:
        for each in same_device(scan.queues, int(str(queue))):
            found.setdefault(each, []).append(moments.to_numpy())
    return {queue: np.unique(np.concatenate(moments)) for queue, moments in found.items()}


def _ends(
    reader: TraceReader, driver: Driver, scan: Scan, begins: dict[str, dict[int, NDArray[np.int64]]]
) -> dict[str, dict[int, NDArray[np.int64]]]:
    """:return: state -> queue -> [ns] moments that end it, ascending: at least the first after each begin."""
    ends = {state: {queue: [np.empty(0, np.int64)] for queue in found} for state, found in begins.items()}
    last = {state: dict.fromkeys(found, -1) for state, found in begins.items()}
    for index in np.argsort(scan.batches[:, 0], kind="stable"):
        first, until, events = map(int, scan.batches[index])
        asked = [
            (state, queue)
            for state in driver.states
            for queue, moments in begins[state.name].items()
            if events and _may_end(moments, last[state.name][queue], first, until)
        ]
        if not asked:
            continue
        columns = reader.columns(int(index))
        for state, queue, moments in _matching(asked, scan.queues, columns):
            known = begins[state.name][queue]
            within = known[np.searchsorted(known, first) : np.searchsorted(known, until, "right")]
            # The first of the batch, and the first after each begin within.
            keep = np.unique(np.concatenate([[0], np.searchsorted(moments, within, "right")]))
            kept = moments[keep[keep < len(moments)]]
            ends[state.name][queue].append(kept)
            if len(kept):
                last[state.name][queue] = max(last[state.name][queue], int(kept[-1]))
    return {
        state: {queue: np.unique(np.concatenate(parts)) for queue, parts in found.items()}
        for state, found in ends.items()
    }


def _may_end(begins: NDArray[np.int64], last: int, first: int, until: int) -> bool:
    """:return: whether the state may have to end between `first` and `until`, when it ended at `last`."""
    before = np.searchsorted(begins, first)
    open_at_first = before > 0 and not (begins[before - 1] < last <= first)
    return bool(open_at_first or (before < len(begins) and begins[before] <= until))


def _matching(
    asked: Sequence[tuple[State, int]], queues: Sequence[Queue], columns: Columns
) -> Iterator[tuple[State, int, NDArray[np.int64]]]:
    """:return: for each state and queue, [ns] the moments of the events that end it, ascending."""
    mine = {queue: belonging(queues[queue], columns) for _, queue in asked}
    for state, queue in asked:
        at = mine[queue]
        some = {name: column[at] for name, column in columns.items()}
        yield state, queue, np.sort(rules.moments(some)[rules.rows(state.end, some)])


def _pair(begins: NDArray[np.int64], ends: NDArray[np.int64], ended: int) -> pd.DataFrame:
    """Pairs each begin with the first end after it; begins in between repeat the first.

    :return: columns start, end [ns], open.
    """
    following = np.searchsorted(ends, begins, "right")
    # Begins that share their end are one interval, from the first of them on.
    end, first = np.unique(following, return_index=True)
    still = end == len(ends)
    moment = np.append(ends, max(ended, int(begins[-1])))[end]
    return pd.DataFrame({"start": begins[first], "end": moment, "open": still})
