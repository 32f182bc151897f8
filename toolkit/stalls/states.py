# SPDX-License-Identifier: GPL-2.0-only
"""From events to the intervals in which a queue is in a state."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from toolkit.driver import Driver, State
from toolkit.stalls import rules
from toolkit.stalls.columns import take
from toolkit.stalls.marks import Marks, QueueTable, joined, marks_of, queue_table, spread, turns
from toolkit.stalls.scan import Scan
from toolkit.trace.reader import Columns, TraceReader

_INTERVALS = {"queue": np.intp, "state": np.intp, "start": np.int64, "end": np.int64, "open": np.bool_}


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


def state_names(drivers: Sequence[Driver]) -> list[str]:
    """Return the names of the states of some drivers, each once."""
    return list(dict.fromkeys(state.name for driver in drivers for state in driver.states))


def intervals(reader: TraceReader, drivers: Sequence[Driver], scan: Scan) -> Columns:
    """Find when each queue is in each state, exactly, in whatever order the events were written.

    Only the chunks in which a state may end are read again.

    :param reader: the trace that was scanned.
    :param drivers: those of the trace, in its order.
    :param scan: what the scan found.
    :return: columns queue (index in scan.queues), state (index in `state_names`), start, end [ns], open;
        sorted by start. An open one ends with the trace.
    """
    table = queue_table(scan.queues)
    searches = [
        _search(scan, number, state, table)
        for number, driver in enumerate(drivers)
        for state in driver.states
        if len(scan.begins[number, state.name].queue)
    ]
    _find_ends(reader, scan, searches, table)
    names = state_names(drivers)
    parts: list[Columns] = [{name: np.empty(0, kind) for name, kind in _INTERVALS.items()}]
    for search in searches:
        pairs = _pair(search.begins, joined(search.ends), scan.ended)
        parts.append({"state": np.full(len(pairs["queue"]), names.index(search.state.name)), **pairs})
    found = {name: np.concatenate([part[name] for part in parts]) for name in _INTERVALS}
    return take(found, np.lexsort((found["queue"], found["start"])))


def _search(scan: Scan, driver: int, state: State, table: QueueTable) -> _Search:
    """Begin a search with the events that begin a state, once for each queue that they are about."""
    begins = scan.begins[driver, state.name]
    order = np.argsort(begins.moment, kind="stable")
    row, queue = spread(begins.queue[order], table)
    begun = np.zeros(len(scan.queues), np.bool_)
    begun[queue] = True
    began, ended = np.full((2, len(scan.queues)), -1, np.int64)
    return _Search(driver, state, Marks(queue, begins.moment[order][row]), begun, began, ended)


def _find_ends(reader: TraceReader, scan: Scan, searches: Sequence[_Search], table: QueueTable) -> None:
    """Add to each search the moments that end its state: at least the first after each begin."""
    for index in np.argsort(scan.chunks[:, 0], kind="stable"):
        first, until, events = map(int, scan.chunks[index])
        asked = [search for search in searches if events and _may_end(search, first, until)]
        if not asked:
            continue
        columns = reader.chunk(int(index))
        moments = rules.moments(columns)
        for search in asked:
            at = rules.rows(search.state.end, columns)
            found = marks_of(at[columns["driver"][at] == search.driver], columns, moments, table)
            begun = search.begun[found.queue]
            ends = Marks(found.queue[begun], found.moment[begun])
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


def _pair(begins: Marks, ends: Marks, ended: int) -> Columns:
    """Pair each begin with the first end after it; begins in between repeat the first.

    :return: the intervals of one state: queue (index), start and end [ns], and whether each is open.
    """
    (queue, moment), begin = turns(begins, ends)
    start = np.flatnonzero(begin)
    # What follows a begin is its end, unless it is of another queue.
    still = np.append(queue, -1)[start + 1] != queue[start]
    end = np.where(still, ended, np.append(moment, 0)[start + 1])
    return {"queue": queue[start], "start": moment[start], "end": end, "open": still}
