# SPDX-License-Identifier: GPL-2.0-only
"""From events to the intervals in which a queue is in a state."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from toolkit.drivers import Driver, State
from toolkit.stalls import rules
from toolkit.stalls.marks import Marks, QueueTable, look_up, queue_table, spread, turns
from toolkit.stalls.scan import Scan
from toolkit.trace.reader import TraceReader

COLUMNS: dict[str, Any] = {
    "queue": np.intp,
    "state": "str",
    "start": np.int64,
    "end": np.int64,
    "open": np.bool_,
}


@dataclass
class _Search:
    """A state of a driver, and how far the search for its ends has come.

    Attributes: `begins`, sorted by moment; by queue, `begun`, whether it has any; `passed`, how many of
    them are before the chunk; by queue, `began`, the last of those, and `ended`, the last end that was
    found [ns], -1 for none; `ends`, all that were found.
    """

    driver: int
    state: State
    begins: Marks
    begun: NDArray[np.bool_]
    began: NDArray[np.int64]
    ended: NDArray[np.int64]
    passed: int = 0
    ends: list[Marks] = field(default_factory=list)


class _Pairs(NamedTuple):
    """The intervals of one state: queue (index), start and end [ns], and whether it is open."""

    queue: NDArray[np.intp]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    open: NDArray[np.bool_]


def intervals(reader: TraceReader, drivers: Sequence[Driver], scan: Scan) -> pd.DataFrame:
    """Finds when each queue is in each state, exactly, in whatever order the events were written.

    Only the chunks in which a state may end are read again.

    :param reader: the trace that was scanned.
    :param drivers: those of the trace, in its order.
    :param scan: what the scan found.
    :return: columns queue (index in scan.queues), state, start, end [ns], open; sorted by start. An open one
        ends with the trace.
    """
    table = queue_table(scan.queues)
    searches = [
        _search(scan, number, state, table)
        for number, driver in enumerate(drivers)
        for state in driver.states
        if len(scan.begins[number, state.name])
    ]
    _find_ends(reader, scan, searches, table)
    none = _Pairs(*(np.empty(0, COLUMNS[name]) for name in _Pairs._fields))
    parts = [_pair(search.begins, _joined(search.ends), scan.ended) for search in searches]
    names = [search.state.name for search in searches]
    found = dict(zip(_Pairs._fields, map(np.concatenate, zip(none, *parts, strict=True)), strict=True))
    found["state"] = np.repeat(np.array(names, object), [len(part.queue) for part in parts])
    order = np.lexsort((found["queue"], found["start"]))
    return pd.DataFrame({name: found[name][order] for name in COLUMNS}).astype({"state": COLUMNS["state"]})


def _search(scan: Scan, driver: int, state: State, table: QueueTable) -> _Search:
    """Begin a search with the events that begin a state, once for each queue that they are about."""
    found = scan.begins[driver, state.name].sort_values("moment", kind="stable")
    row, queue = spread(found["queue"].to_numpy(), table)
    begun = np.zeros(len(scan.queues), np.bool_)
    begun[queue] = True
    began, ended = np.full((2, len(scan.queues)), -1, np.int64)
    return _Search(driver, state, Marks(queue, found["moment"].to_numpy()[row]), begun, began, ended)


def _joined(parts: Sequence[Marks]) -> Marks:
    queues, moments = zip(Marks(np.empty(0, np.intp), np.empty(0, np.int64)), *parts, strict=True)
    return Marks(np.concatenate(queues), np.concatenate(moments))


def _find_ends(reader: TraceReader, scan: Scan, searches: Sequence[_Search], table: QueueTable) -> None:
    """Add to each search the moments that end its state: at least the first after each begin."""
    for index in np.argsort(scan.chunks[:, 0], kind="stable"):
        first, until, events = map(int, scan.chunks[index])
        asked = [search for search in searches if events and _may_end(search, first, until)]
        if not asked:
            continue
        columns = reader.chunk(int(index))
        moments, queues = rules.moments(columns), look_up(columns, table)
        for search in asked:
            at = rules.rows(search.state.end, columns)
            at = at[columns["driver"][at] == search.driver]
            row, queue = spread(queues[at], table)
            begun = search.begun[queue]
            ends = Marks(queue[begun], moments[at][row][begun])
            low, high = search.passed, np.searchsorted(search.begins.moment, until, "right")
            within = Marks(search.begins.queue[low:high], search.begins.moment[low:high])
            # The first of the chunk, and the first after each begin within.
            (queue, moment), begin = turns(within, ends)
            kept = Marks(queue[~begin], moment[~begin])
            search.ends.append(kept)
            np.maximum.at(search.ended, kept.queue, kept.moment)


def _may_end(search: _Search, first: int, until: int) -> bool:
    """Tell whether the state of any queue may have to end between `first` and `until`.

    Goes over the chunks by their first moment.
    """
    begins, before = search.begins, search.passed
    search.passed = int(np.searchsorted(begins.moment, first))
    search.began[begins.queue[before : search.passed]] = begins.moment[before : search.passed]
    if search.passed < len(begins.moment) and begins.moment[search.passed] <= until:
        return True
    ended = (search.began < search.ended) & (search.ended <= first)
    return bool(((search.began >= 0) & ~ended).any())


def _pair(begins: Marks, ends: Marks, ended: int) -> _Pairs:
    """Pair each begin with the first end after it; begins in between repeat the first."""
    (queue, moment), begin = turns(begins, ends)
    start = np.flatnonzero(begin)
    # What follows a begin is its end, unless it is of another queue.
    still = np.append(queue, -1)[start + 1] != queue[start]
    end = np.where(still, ended, np.append(moment, 0)[start + 1])
    return _Pairs(queue[start], moment[start], end, still)
