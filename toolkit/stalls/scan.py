# SPDX-License-Identifier: GPL-2.0-only
"""One pass over a trace, in bounded memory: what begins a state, rare events, sums, the timeline."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from toolkit.driver import Driver
from toolkit.event import FLAG, KIND, NOT_KNOWN, POSTED_KINDS
from toolkit.stalls import rules
from toolkit.stalls.marks import Marks, Queue, joined
from toolkit.stalls.thresholds import SHORTEST_NS
from toolkit.trace.ledger import Ledger, loss_windows
from toolkit.trace.reader import Chunk, Columns, TraceReader
from toolkit.trace.schema import EVENT

SUMS = ("packets", "polls", "full_polls", "refills", "failed", "fallbacks", "irqs")
"""Columns that add up."""

BINS = 4096
"""Steps of the timeline, however long the trace is: its step doubles when they do not suffice."""

GAP_BINS = 64 * 8
"""Bins of the distribution of gaps between polls, 8 in each octave."""

SLOW_NS = SHORTEST_NS
"""A refill in softirq or a poll of this length or longer is among the rare events: it may be a silence."""

PART_EVENTS = 1 << 16
"""So many events are worked on at a time."""

FEW_QUEUES = 16
"""The events of so few queues are sorted fastest by a look for each of them."""

LARGEST_ARRAY = 1 << 24
"""An array of so many bytes is larger than any that is made of a part."""

NEVER = np.iinfo(np.int64).max

# The bin of a gap, by the 12 top bits of its length as a float32. One more bin is for gaps below zero, which
# are none.
_GAP_BIN = np.clip(np.arange(1 << 12) - (127 << 3), 0, GAP_BINS - 1).astype(np.int16)
_GAP_BIN[1 << 11 :] = GAP_BINS

_RARE = ~np.isin(np.arange(256), [KIND["window"], KIND["poll"], KIND["irq"]])
# By kind of event, NOT_KNOWN where it counts no posted buffers, else 0.
_POSTED_UNKNOWN = np.full(256, NOT_KNOWN, np.uint16)
_POSTED_UNKNOWN[[KIND[name] for name in POSTED_KINDS]] = 0


_Index: TypeAlias = NDArray[np.intp]


class _ByQueue(NamedTuple):
    """The events of a chunk, sorted by queue; those of a queue are in the order of the chunk.

    Attributes: `rows`, the row of each event, None if the chunk is in this order; `first`, the place in these
    of each queue's first; `queue`, the index of each of these queues.
    """

    rows: _Index | None
    first: _Index
    queue: _Index

    def sort(self, column: NDArray[Any]) -> NDArray[Any]:
        """Return a column of the chunk in this order."""
        return column if self.rows is None else column.take(self.rows)


@dataclass
class Scan:
    """What one pass finds. An array "by queue" has one row for each of `queues`.

    Attributes: `queues`, those of the devices and then any other that an event names; `chunks`, [ns] the
    first and last moment of each chunk of the reader, and its events; `begins`, by driver and state, the
    moments that begin it; `rare`, columns of EVENT, with queue (index), start, ts [ns] and the flags as
    booleans, of the events that are sent one by one also without --detail full, of the worker's windows, and
    of refills and polls of SLOW_NS and longer; `sums` by queue and column of SUMS; `posted` [buffers] by
    queue and step of 2**`shift` ns from `began`, the fewest seen, NOT_KNOWN where nobody looked; `gaps` by
    queue and bin (see `gap_edges`); `longest_gap` [ns] by queue; `losses`, begin and end [ns] of each
    interval in which events were dropped; `ledger`, what was counted in all; `threads`, the
    name of each thread that the notes name; `stacks`, the functions of each stack, the outermost first;
    `memory` and `steal`, what the notes say of it; `reason`, `missed`, `counters` and `devices` as in the
    notes; `began`, `ended` [ns].
    """

    queues: list[Queue]
    chunks: NDArray[np.int64]
    begins: dict[tuple[int, str], Marks]
    rare: Columns
    sums: NDArray[np.int64]
    posted: NDArray[np.uint16]
    shift: int
    gaps: NDArray[np.int64]
    longest_gap: NDArray[np.int64]
    losses: list[tuple[int, int]]
    ledger: Ledger
    reason: str | None
    missed: dict[str, int] | None
    counters: dict[str, dict[str, int]]
    threads: dict[int, str]
    stacks: dict[int, tuple[str, ...]]
    memory: list[Mapping[str, int]]
    steal: list[Mapping[str, Any]]
    devices: list[dict[str, Any]]
    began: int
    ended: int


def scan(reader: TraceReader, drivers: Sequence[Driver]) -> Scan:
    """Read the whole trace once, and keep what the analysis needs of it.

    :param reader: a trace that was not iterated yet.
    :param drivers: those of the trace, in its order.
    :return: what it found.
    """
    # malloc() of glibc keeps twice as much free memory as the largest array that was freed. With less it
    # would give memory back all the time, and the kernel would clear each page of it anew.
    np.empty(LARGEST_ARRAY, np.uint8)
    began = int(reader.meta["clock"]["monotonic_ns"])
    queues: dict[int, int] = {}
    known: dict[int, _Index] = {}
    drains: list[tuple[int, int]] = []
    reason: str | None = None
    missed: dict[str, int] | None = None
    counters: dict[str, dict[str, int]] = {}
    threads: dict[int, str] = {}
    stacks: dict[int, tuple[str, ...]] = {}
    memory: list[Mapping[str, int]] = []
    steal: list[Mapping[str, Any]] = []
    chunks: list[tuple[int, int, int]] = []
    states = [(number, state) for number, driver in enumerate(drivers) for state in driver.states]
    begins: list[list[Marks]] = [[] for _ in states]
    rare = [_rare(_no_events(), np.empty(0, np.intp))]
    sums = np.zeros((0, len(SUMS)), np.int64)
    posted, shift = np.zeros((0, BINS), np.uint16), 18
    gaps = np.zeros((0, GAP_BINS + 1), np.int64)
    longest, polled = np.zeros(0, np.int64), np.zeros(0, np.int64)
    devices: list[dict[str, Any]] = reader.meta.get("devices", [])
    _add_devices(devices, drivers, queues)
    for columns, notes in _read_ahead(reader.chunks()):
        drains += [(int(note["now_ns"]), note["dropped"]) for note in notes]
        threads |= {each["tid"]: each["name"] for note in notes for each in note.get("threads", [])}
        for each in (each for note in notes for each in note.get("stacks", [])):
            stacks[each["stack"]] = tuple(each["functions"])
        memory += [each for note in notes for each in note.get("memory", [])]
        steal += [each for note in notes for each in note.get("steal", [])]
        end = notes[-1].get("end", {})
        reason, missed = end.get("reason", reason), end.get("missed", missed)
        counters = end.get("counters", counters)
        if "devices" in notes[0]:
            devices = notes[0]["devices"]
            _add_devices(devices, drivers, queues)
        if not len(columns["ts"]):
            chunks.append((0, -1, 0))
            continue
        chunks.append((int(rules.moments(columns).min()), int(columns["ts"].max()), len(columns["ts"])))
        for part in _parts(columns):
            moment = rules.moments(part)
            queue = _number_queues(part, queues, known)
            for (number, state), marks in zip(states, begins, strict=True):
                at = rules.rows(state.begin, part)
                if len(at := at[part["driver"][at] == number]):
                    marks.append(Marks(queue[at], moment[at]))
            rare.append(_rare(part, queue))
            sums, gaps, longest, polled = (
                _grown(array, len(queues), 0) for array in (sums, gaps, longest, polled)
            )
            posted = _grown(posted, len(queues), NOT_KNOWN)
            events = _by_queue(queue, len(queues))
            _add_sums(sums, part, events)
            posted, shift = _lower_posted(posted, shift, part, events, moment - began)
            _count_gaps(gaps, longest, polled, part, events)
    sums, gaps, longest, polled = (_grown(array, len(queues), 0) for array in (sums, gaps, longest, polled))
    posted = _grown(posted, len(queues), NOT_KNOWN)
    ended = max([began, *(now for now, _ in drains), *(last for _, last, _ in chunks)])
    _count_last_gaps(gaps, longest, polled, ended)
    return Scan(
        queues=[Queue(code >> 48, code >> 16 & 0xFFFFFFFF, code & 0xFFFF) for code in queues],
        chunks=np.array(chunks, np.int64).reshape(-1, 3),
        begins={
            (number, state.name): joined(marks) for (number, state), marks in zip(states, begins, strict=True)
        },
        rare={name: np.concatenate([part[name] for part in rare]) for name in rare[0]},
        sums=sums,
        posted=posted,
        shift=shift,
        gaps=gaps[:, :GAP_BINS],
        longest_gap=longest,
        losses=loss_windows(began, drains),
        ledger=reader.ledger,
        reason=reason,
        missed=missed,
        counters=counters,
        threads=threads,
        stacks=stacks,
        memory=memory,
        steal=steal,
        devices=devices,
        began=began,
        ended=ended,
    )


def gap_edges() -> NDArray[np.float64]:
    """Return the GAP_BINS + 1 edges [ns] of the bins of gaps between polls."""
    bits = np.arange(GAP_BINS + 1, dtype=np.int32) + (127 << 3)
    return (bits << 20).view(np.float32).astype(np.float64)


def _no_events() -> Columns:
    return {name: np.empty(0, EVENT[name]) for name in EVENT.names or ()}


def _read_ahead(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Yield the chunks; while one is worked on, the next is decompressed."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, chunks, None)
        while chunk := coming.result():
            coming = thread.submit(next, chunks, None)
            yield chunk


def _parts(columns: Columns) -> Iterator[Columns]:
    """Yield the events of a chunk, PART_EVENTS at a time."""
    count = len(columns["ts"])
    if count <= PART_EVENTS:
        yield columns
        return
    for start in range(0, count, PART_EVENTS):
        yield {name: column[start : start + PART_EVENTS] for name, column in columns.items()}


def _grown(array: NDArray[Any], length: int, fill: int) -> NDArray[Any]:
    """Return the array with as many rows as there are queues now."""
    if len(array) == length:
        return array
    more = np.full((length - len(array), *array.shape[1:]), fill, array.dtype)
    return np.concatenate([array, more])


def _add_devices(
    devices: Sequence[Mapping[str, Any]], drivers: Sequence[Driver], queues: dict[int, int]
) -> None:
    """Add the queues of the devices to `queues`, whether they have events or not."""
    number = {driver.name: index for index, driver in enumerate(drivers)}
    for device in devices:
        for queue in device.get("queues", []):
            code = number.get(device["driver"], 0) << 48 | device["ifindex"] << 16 | queue["queue"]
            queues.setdefault(code, len(queues))


def _number_queues(columns: Columns, queues: dict[int, int], known: dict[int, _Index]) -> _Index:
    """Return the index of each event's queue.

    New ones are added to `queues`; `known` has, by device, the index of each queue number, or -1.
    """
    ifindex, driver = columns["ifindex"], columns["driver"]
    if ifindex.min() == ifindex.max() and driver.min() == driver.max():
        mine = known.get(int(driver[0]) << 32 | int(ifindex[0]))
        if mine is not None and (found := mine[columns["queue"]]).min() >= 0:
            return found
    device = driver.astype(np.int64) << 32 | ifindex
    number, seen = pd.factorize(device << 16 | columns["queue"])
    for code in map(int, seen):
        if code >> 16 not in known:
            known[code >> 16] = np.full(0x10000, -1, np.intp)
        known[code >> 16][code & 0xFFFF] = queues.setdefault(code, len(queues))
    index = np.array([queues[int(code)] for code in seen], np.intp)
    return np.asarray(index[number])


def _rare(columns: Columns, queue: _Index) -> Columns:
    """Return the columns of Scan.rare."""
    # A window in process context is that of a worker that is called again and again.
    slow = columns["dur"] >= SLOW_NS
    at = np.flatnonzero(_RARE.take(columns["kind"]) | (columns["flags"] & FLAG["process"] > 0) | slow)
    kind, flags = columns["kind"][at], columns["flags"][at]
    good = (kind == KIND["refill"]) & (flags & (FLAG["process"] | FLAG["complete"]) == FLAG["complete"])
    # After one that leaves the ring empty there may be no other.
    good &= columns["posted_after"][at] > 0
    at = at[~good | slow[at]]
    names = (
        "reclaim",
        "tid",
        "gfp",
        "order",
        "kind",
        "cpu",
        "posted_before",
        "posted_after",
        "refills",
        "polls",
    )
    ts = columns["ts"][at].astype(np.int64)
    rare: Columns = {"queue": queue[at], "start": ts - columns["dur"][at].view(np.int64), "ts": ts}
    rare |= {name: columns[name][at] for name in names}
    return rare | {flag: rules.column(flag, columns, at) for flag in FLAG}


def _by_queue(queue: _Index, count: int) -> _ByQueue:
    """Sort the events of a chunk by their queue, of which there are `count`."""
    if queue.min() == queue.max():
        return _ByQueue(None, np.zeros(1, np.intp), queue[:1])
    # NumPy sorts small numbers by radix.
    small = queue.astype(np.min_scalar_type(count))
    if count <= FEW_QUEUES:
        of_each = [np.flatnonzero(small == each) for each in range(count)]
        counts = np.array([len(rows) for rows in of_each])
        first = np.cumsum(counts) - counts
        return _ByQueue(np.concatenate(of_each), first[counts > 0], np.flatnonzero(counts))
    rows = np.argsort(small, kind="stable")
    first = _firsts(small.take(rows))
    return _ByQueue(rows, first, queue[rows[first]])


def _firsts(values: NDArray[Any]) -> _Index:
    """Return the place of the first of each run of equal values."""
    return np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])


def _add_sums(sums: NDArray[np.int64], columns: Columns, events: _ByQueue) -> None:
    """Add each of SUMS to the sums by queue."""
    for place, name in enumerate(SUMS):
        if columns[name].max():
            sums[events.queue, place] += np.add.reduceat(
                events.sort(columns[name]), events.first, dtype=np.int64
            )


def _lower_posted(
    posted: NDArray[np.uint16],
    shift: int,
    columns: Columns,
    events: _ByQueue,
    since: NDArray[np.int64],
) -> tuple[NDArray[np.uint16], int]:
    """Return the timeline with these events in it, and the power of two that its step is now [ns]."""
    fewest = np.minimum(columns["posted_before"], columns["posted_after"])
    fewest |= _POSTED_UNKNOWN.take(columns["kind"])
    while int(since.max()) >> shift >= BINS:
        half = np.minimum(posted[:, ::2], posted[:, 1::2])
        posted = np.concatenate([half, np.full_like(half, NOT_KNOWN)], axis=1)
        shift += 1
    step = events.sort((np.maximum(since, 0) >> shift).astype(np.uint16))
    # Events of a queue come in the order of time, or nearly: many in a row are of one cell.
    new = np.append(True, step[1:] != step[:-1])
    new[events.first] = True
    first = np.flatnonzero(new)
    queue = events.queue[np.searchsorted(events.first, first, "right") - 1]
    cell = queue * BINS + step[first]
    np.minimum.at(posted.reshape(-1), cell, np.minimum.reduceat(events.sort(fewest), first))
    return posted, shift


def _count_gaps(
    gaps: NDArray[np.int64],
    longest: NDArray[np.int64],
    polled: NDArray[np.int64],
    columns: Columns,
    events: _ByQueue,
) -> None:
    """Add the intervals without a poll to `gaps` and `longest`.

    Inside a window of n polls, n - 1 equal intervals are assumed. `polled` [ns] is when each queue's last
    poll before these events ended, 0 for none.
    """
    polls = events.sort(columns["polls"])
    at = np.flatnonzero(polls > 0)
    if not len(at):
        return
    first = np.searchsorted(at, events.first)
    counts = np.diff(first, append=len(at))
    first, counts, mine = first[counts > 0], counts[counts > 0], events.queue[counts > 0]
    last, queue = first + counts - 1, np.repeat(mine, counts)
    rows = at if events.rows is None else events.rows.take(at)
    end = columns["ts"].view(np.int64).take(rows)
    start = end - columns["dur"].view(np.int64).take(rows)
    latest = end
    back = end[1:] < end[:-1]
    back[last[:-1]] = False
    if back.any() or (end[first] < polled[mine]).any():
        # An event that came later than it happened counts the same, whatever chunk it is in.
        latest = end.copy()
        latest[first] = np.maximum(end[first], polled[mine])
        latest = pd.Series(latest).groupby(queue).cummax().to_numpy()
    # The gap of a queue's first poll is below zero, which is none.
    before = np.roll(latest, 1)
    before[first] = np.where(polled[mine] > 0, polled[mine], NEVER)
    gap = start - before
    polled[mine] = latest[last]
    longest[mine] = np.maximum(longest[mine], np.maximum.reduceat(gap, first))
    _add_gaps(gaps, queue, gap)
    if polls.max() > 1:
        polls = polls[at]
        many = np.flatnonzero(polls > 1)
        queue, inside = queue[many], polls[many].astype(np.int64) - 1
        mean = (end[many] - start[many]) // inside
        np.maximum.at(longest, queue, mean)
        _add_gaps(gaps, queue, mean, inside)


def _count_last_gaps(
    gaps: NDArray[np.int64], longest: NDArray[np.int64], polled: NDArray[np.int64], ended: int
) -> None:
    """Add the interval from each queue's last poll to the end of the trace [ns], which is at least so long.

    What was before its first poll is no gap: the queue may not have been up.
    """
    queue = np.flatnonzero(polled)
    gap = ended - polled[queue]
    longest[queue] = np.maximum(longest[queue], gap)
    _add_gaps(gaps, queue, gap)


def _add_gaps(
    gaps: NDArray[np.int64],
    queue: _Index,
    gap: NDArray[np.int64],
    times: NDArray[np.int64] | None = None,
) -> None:
    """Count gaps [ns] in bins of an eighth of an octave: the top bits of the number as a float."""
    top = gap.astype(np.float32).view(np.uint32)
    top >>= 20
    cell = queue * (GAP_BINS + 1)
    cell += _GAP_BIN.take(top)
    if gaps.size > len(cell):
        np.add.at(gaps.reshape(-1), cell, 1 if times is None else times)
    else:
        gaps += np.bincount(cell, times, gaps.size).astype(np.int64).reshape(gaps.shape)
