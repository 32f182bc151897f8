# SPDX-License-Identifier: GPL-2.0-only
"""From the states of a queue to its stalls: how long, why, and what the time went into."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from toolkit.driver import Cause, Driver
from toolkit.event import KIND, NO_ORDER, NOT_KNOWN, WINDOW_NS
from toolkit.stalls import rules
from toolkit.stalls.classes import CALLED, RECONFIGURATION, classify
from toolkit.stalls.columns import Draft, booleans, integers, take, words
from toolkit.stalls.marks import (
    Marks,
    QueueTable,
    devices,
    first_of,
    in_order,
    last_of,
    last_until,
    latest,
    look_up,
    queue_table,
    spread,
)
from toolkit.stalls.scan import SUMS, Scan
from toolkit.stalls.states import state_names
from toolkit.stalls.thresholds import Thresholds
from toolkit.trace.gfp import names as gfp_names
from toolkit.trace.reader import Columns, TraceReader

_HOT = [KIND["window"], KIND["poll"], KIND["irq"]]
_COUNTED = [*SUMS, "spin_ns", "retries"]

NOT_SEEN = "no_failure_seen"
ALLOCATION = "allocation_failed"
REFILL = "refill_failed"
BEFORE = "before_trace"
"""Causes that any driver's stall may have, beside those of its own: by the failed refill that began it."""

FIRST_LOOK_NS = 2_000_000_000
"""The first look at all queues is at the latest so long after a trace began: it is made at once."""


class _Refills(NamedTuple):
    """The refills that failed, sorted by ts: queue (index), ts [ns], whether in process context, buffers
    posted after it, and gfp and order of the allocation that failed; order is -1 if it is not known. And the
    row of each in scan.rare."""

    queue: NDArray[np.intp]
    ts: NDArray[np.int64]
    process: NDArray[np.bool_]
    posted: NDArray[np.int64]
    gfp: NDArray[np.int64]
    order: NDArray[np.int64]
    row: NDArray[np.int64]


class _Told(NamedTuple):
    """What each event of scan.rare tells: a cause (index in the drivers' causes, -1 for none); and whether
    it is the relief of one."""

    cause: NDArray[np.intp]
    relief: NDArray[np.bool_]


class _OwnCauses(NamedTuple):
    """The events that a driver's causes are told by: for each stall the cause that its first event tells
    (index in the drivers' causes, -1 for none), and what docs/stalls.md says of posted, posted_later and
    relieved_ns; the last two are -1 if they are not known."""

    cause: NDArray[np.intp]
    posted: NDArray[np.int64]
    posted_later: NDArray[np.int64]
    relieved_ns: NDArray[np.int64]


def stalls(
    reader: TraceReader, drivers: Sequence[Driver], scan: Scan, states: Columns, thresholds: Thresholds
) -> Draft:
    """Join states that overlap or touch into stalls, with the cause and the counts of each stall.

    :param states: the states of the queues (states.intervals).
    :return: the columns of docs/stalls.md, with `queue` an index in scan.queues; sorted by start.
    """
    found = _join(states, state_names(drivers))
    found["uncertain"] = _touches(found, scan.losses)
    found["class"] = classify(found, scan, thresholds)
    table = queue_table(scan.queues)
    return {
        **found,
        **_causes(found, scan, drivers, reader.meta.get("gfp_flags", {})),
        **_spent(found, scan, table),
        **_count(reader, found, scan, table),
    }


def _join(states: Columns, names: Sequence[str]) -> Columns:
    """Return queue, state, start_ns, end_ns, duration_ns, open, and <state>_ns [ns] for each state.

    :param names: of the states.
    """
    begun, order = in_order(Marks(states["queue"], states["start"]))
    queue, start = begun
    state, end, still = (states[name][order] for name in ("state", "end", "open"))
    until = latest(Marks(queue, end))
    new = np.ones(len(order), np.bool_)
    new[1:] = (queue[1:] != queue[:-1]) | (start[1:] > until[:-1])
    first = np.flatnonzero(new)
    parts = np.zeros((len(first), len(names)), np.int64)
    np.add.at(parts, (np.cumsum(new) - 1, state), end - start)
    ends = np.maximum.reduceat(end, first) if len(first) else end
    found = {
        "queue": queue[first],
        "state": np.array(names, object)[parts.argmax(axis=1)],
        "start_ns": start[first],
        "end_ns": ends,
        "duration_ns": ends - start[first],
        "open": np.logical_or.reduceat(still, first) if len(first) else still,
    }
    found |= {f"{name.replace('-', '_')}_ns": parts[:, place] for place, name in enumerate(names)}
    return take(found, np.lexsort((found["queue"], found["start_ns"])))


def _touches(stalls: Columns, windows: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """Tell for each stall whether events were dropped at any time from its start to its end."""
    start, end = np.array(windows, np.int64).reshape(-1, 2).T
    following = np.searchsorted(end, stalls["start_ns"])
    return np.asarray(np.append(start, np.iinfo(np.int64).max)[following] <= stalls["end_ns"])


def _causes(stalls: Columns, scan: Scan, drivers: Sequence[Driver], flags: Mapping[str, int]) -> Draft:
    """Say what is known of the cause of each stall: the columns from cause to relieved_ns of docs/stalls.md.

    A cause that the driver declares comes first, then the refill that failed, which may tell one, too. Of a
    reconfiguration neither is the cause.
    """
    causes = [cause for driver in drivers for cause in driver.causes]
    none = np.full(len(stalls["queue"]), -1)
    told_by = _told(scan, drivers)
    own = _own_causes(stalls, scan, causes, told_by) if causes else _OwnCauses(none, none, none, none)
    refills = _failed_refills(scan)
    called = stalls["class"] == RECONFIGURATION
    refill = np.where((own.cause >= 0) | called, -1, _failed_refill(stalls, scan, refills))
    seen = refill >= 0
    queue, ts, process, posted, gfp, order, row = (np.append(column, -1)[refill] for column in refills)
    other = queue != stalls["queue"]
    number = np.array([queue.queue for queue in scan.queues], np.int64)
    names = {mask: gfp_names(mask, flags) for mask in np.unique(gfp[seen]).tolist()}
    cause = np.select(
        [called, _began_before_the_trace(stalls, scan) & ~seen, ~seen, order >= 0],
        np.array([CALLED, BEFORE, NOT_SEEN, ALLOCATION], object)[:, None],
        REFILL,
    )
    told = own.cause >= 0
    named = np.where(told, own.cause, np.append(told_by.cause, -1)[row])
    cause[named >= 0] = np.array([cause.name for cause in causes], object)[named[named >= 0]]
    return {
        "cause": words(cause),
        "cause_queue": integers(number[queue * seen], seen & other),
        "cause_earlier": booleans(ts < stalls["start_ns"], seen),
        "gfp_names": words([names.get(mask) for mask in gfp.tolist()]),
        "context": words(np.select([~seen, process > 0], np.array([[None], ["process"]]), "softirq")),
        "order": integers(order, order >= 0),
        "gfp": integers(gfp, seen),
        "posted": integers(
            np.where(told, own.posted, posted), told | (seen & ~other & (posted != NOT_KNOWN))
        ),
        "posted_later": integers(own.posted_later, own.posted_later >= 0),
        "relieved_ns": integers(own.relieved_ns, own.relieved_ns >= 0),
    }


def _failed_refill(stalls: Columns, scan: Scan, refills: _Refills) -> NDArray[np.intp]:
    """Look for the failed refill that started each stall: the last one of the device until then.

    :return: its index in `refills`, -1 for none.
    """
    device = devices(scan.queues)
    marks, order = in_order(Marks(refills.queue, refills.ts))
    of_device, device_order = in_order(Marks(device[refills.queue], refills.ts))
    start = Marks(stalls["queue"], stalls["start_ns"])
    own = last_of(marks, start)
    own[np.append(marks.moment, -1)[own] != start.moment] = -1
    before = last_of(of_device, Marks(device[start.queue], start.moment))
    # A window that began the state holds the refill that failed: it was sent right after.
    after = first_of(marks, start)
    after[np.append(marks.moment, -1)[after] > stalls["end_ns"]] = -1
    order, device_order = np.append(order, -1), np.append(device_order, -1)
    return np.select([own >= 0, before >= 0], [order[own], device_order[before]], order[after])


def _began_before_the_trace(stalls: Columns, scan: Scan) -> NDArray[np.bool_]:
    """Tell the stalls that the first look at a queue found under way."""
    looked = (scan.rare["kind"] == KIND["look"]) & (scan.rare["ts"] < scan.began + FIRST_LOOK_NS)
    looks, _ = in_order(Marks(scan.rare["queue"][looked], scan.rare["ts"][looked]))
    last = last_of(looks, Marks(stalls["queue"], stalls["start_ns"]))
    return np.asarray(np.append(looks.moment, -1)[last] == stalls["start_ns"])


def _told(scan: Scan, drivers: Sequence[Driver]) -> _Told:
    """Look at what each rare event tells of the causes that its driver declares."""
    rare = scan.rare
    number = np.array([queue.driver for queue in scan.queues], np.intp)[rare["queue"]]
    causes = [(index, cause) for index, driver in enumerate(drivers) for cause in driver.causes]
    which = np.full(len(number), -1)
    relief = np.zeros(len(number), np.bool_)
    for place, (index, cause) in reversed(list(enumerate(causes))):
        at = rules.rows([cause.when], rare)
        which[at[number[at] == index]] = place
        if cause.relief:
            at = rules.rows([cause.relief], rare)
            relief[at[number[at] == index]] = True
    return _Told(which, relief)


def _own_causes(stalls: Columns, scan: Scan, causes: Sequence[Cause], told_by: _Told) -> _OwnCauses:
    """Look for the causes that a driver declares, by the event that began each stall."""
    rare, (which, relief) = scan.rare, told_by
    tells = np.flatnonzero(which >= 0)
    told, order = in_order(Marks(rare["queue"][tells], rare["ts"][tells]))
    moment = np.append(told.moment, -1)
    posted = np.append(rare["posted_after"][tells][order], 0).astype(np.int64)
    start = Marks(stalls["queue"], stalls["start_ns"])
    first = last_of(told, start)
    first[moment[first] != start.moment] = -1
    # What ends a stall comes a moment before it ends.
    end = np.where(stalls["open"], stalls["end_ns"], stalls["end_ns"] - WINDOW_NS)
    last = last_of(told, Marks(start.queue, end))
    relieved, _ = in_order(Marks(rare["queue"][relief], rare["ts"][relief]))
    relieved_at = np.append(relieved.moment, -1)[first_of(relieved, start)]
    tells_of = np.append(which[tells][order], -1)[first]
    goes_on = np.array([*(bool(cause.later) for cause in causes), False])[tells_of]
    eased = np.array([*(cause.relief is not None for cause in causes), False])[tells_of]
    later = goes_on & (moment[last] >= start.moment) & (posted[last] > posted[first])
    within = eased & (relieved_at >= 0) & (relieved_at <= stalls["end_ns"])
    return _OwnCauses(
        tells_of,
        posted[first],
        np.where(later, posted[last], -1),
        np.where(within, relieved_at - start.moment, -1),
    )


def _failed_refills(scan: Scan) -> _Refills:
    """Return the refills that failed, and the allocation that failed in each or, failing that, its own."""
    rare = scan.rare
    at = np.flatnonzero((rare["kind"] == KIND["refill"]) & ~rare["complete"])
    at = at[np.argsort(rare["ts"][at], kind="stable")]
    failed = np.flatnonzero(rare["kind"] == KIND["alloc_fail"])
    allocations, order = in_order(Marks(rare["queue"][failed], rare["ts"][failed]))
    last = last_of(allocations, Marks(rare["queue"][at], rare["ts"][at]))
    inside = (last >= 0) & (np.append(allocations.moment, -1)[last] >= rare["start"][at])
    # Of many failures not every allocation is sent by itself.
    of = np.where(inside, np.append(failed[order], -1)[last], at)
    orders = rare["order"][of].astype(np.int64)
    return _Refills(
        rare["queue"][at],
        rare["ts"][at],
        rare["process"][at],
        rare["posted_after"][at].astype(np.int64),
        rare["gfp"][of].astype(np.int64),
        np.where(~inside & (orders == NO_ORDER), -1, orders),
        at,
    )


class _Work(NamedTuple):
    """What queues were busy with, sorted by queue and ts: when it began and ended [ns], and how much of that
    was reclaim [ns]. No two of a queue overlap."""

    queue: NDArray[np.intp]
    start: NDArray[np.int64]
    ts: NDArray[np.int64]
    reclaim: NDArray[np.int64]

    @property
    def length(self) -> NDArray[np.int64]:
        """How long each took [ns]."""
        return self.ts - self.start


def _spent(stalls: Columns, scan: Scan, table: QueueTable) -> Columns:
    """Split each stall's time: reclaim, the rest of refills in process context, and waiting for one.

    :return: reclaim_ns, refill_ns, waiting_ns [ns]; their sum is the duration.
    """
    kind, process = scan.rare["kind"], scan.rare["process"]
    stalled = np.zeros(len(scan.queues), np.bool_)
    stalled[stalls["queue"]] = True
    refill = _disjoint(scan.rare, (kind == KIND["refill"]) & process, stalled, table)
    reclaim = _disjoint(scan.rare, kind == KIND["reclaim"], stalled, table)
    # Of a refill that was still running when the trace ended there is only its reclaim.
    inside = last_until(Marks(refill.queue, refill.ts), Marks(reclaim.queue, reclaim.ts - 1)) + 1
    of_queue = np.append(refill.queue, -1)[inside] == reclaim.queue
    alone = ~of_queue | (np.append(refill.start, 0)[inside] > reclaim.start)
    reclaim = _Work(*(column[alone] for column in reclaim))
    only_reclaim = _within(reclaim, reclaim.length, stalls)
    reclaiming = _within(refill, np.minimum(refill.length, refill.reclaim), stalls) + only_reclaim
    busy = _within(refill, refill.length, stalls) + only_reclaim
    return {
        "reclaim_ns": reclaiming,
        "refill_ns": busy - reclaiming,
        "waiting_ns": stalls["duration_ns"] - busy,
    }


def _disjoint(rare: Columns, rows: NDArray[np.bool_], stalled: NDArray[np.bool_], table: QueueTable) -> _Work:
    """Return what these events say about each queue that stalled; each is cut to begin no earlier than the
    one before it ended."""
    at = np.flatnonzero(rows)
    row, queue = spread(rare["queue"][at], table)
    row, queue = at[row[stalled[queue]]], queue[stalled[queue]]
    order = np.lexsort((rare["ts"][row], queue))
    row, queue = row[order], queue[order]
    start, ts, reclaim = (rare[name][row].astype(np.int64) for name in ("start", "ts", "reclaim"))
    again = queue[1:] == queue[:-1]
    start[1:][again] = np.maximum(start[1:], ts[:-1])[again]
    return _Work(queue, np.maximum(start, 0), ts, reclaim)


def _within(work: _Work, amount: NDArray[np.int64], stalls: Columns) -> NDArray[np.int64]:
    """Return the part of an amount, spread evenly over each, that lies in each stall."""
    queue, start, ts, _ = work
    if not len(queue):
        return np.zeros(len(stalls["queue"]), np.int64)
    amounts = amount.astype(np.float64)
    done = np.append(0, np.cumsum(amount))
    sums = []
    for column in ("start_ns", "end_ns"):
        asked = Marks(stalls["queue"], stalls[column])
        running = last_until(Marks(queue, ts), asked) + 1
        at = np.minimum(running, len(queue) - 1)
        began = (running < len(queue)) & (queue[at] == asked.queue) & (start[at] < asked.moment)
        slope = np.divide(amounts[at], ts[at] - start[at], where=began, out=np.zeros(len(at)))
        sums.append((done[running], slope * np.where(began, asked.moment - start[at], 0)))
    (whole, part), (whole_end, part_end) = sums
    return np.asarray(np.rint(whole_end - whole + (part_end - part)), np.int64)


def _count(reader: TraceReader, stalls: Columns, scan: Scan, table: QueueTable) -> Columns:
    """Add up what happened from the start of each stall to its end; reads only those chunks again.

    :return: SUMS, spin_ns [ns] in polls that used their whole budget and took no packet and in runs of the
        refill worker that failed and followed each other at once, and retries, the refills by the worker.
    """
    marks, order = in_order(Marks(stalls["queue"], stalls["start_ns"]))
    end = stalls["end_ns"][order]
    counts = np.zeros((len(_COUNTED), len(order)), np.int64)
    by_start, by_end = np.argsort(marks.moment), np.argsort(end)
    starts, ends = marks.moment[by_start], end[by_end]
    earliest = np.minimum.accumulate(marks.moment[by_end][::-1])[::-1]
    latest = np.maximum.accumulate(end[by_start])
    for index, (first, until, events) in enumerate(scan.chunks):
        ended, begun = np.searchsorted(ends, first), np.searchsorted(starts, until, "right")
        if not events or ended == begun:
            continue
        whole = reader.chunk(index)
        ts = whole["ts"].view(np.int64)
        # Before the first stall that reaches into the chunk nothing counts, nor after the last.
        near = np.flatnonzero((ts >= earliest[ended]) & (ts <= latest[begun - 1]))
        columns = {name: column[near] for name, column in whole.items()}
        counted = _counted(columns)
        at = np.flatnonzero(np.any([numbers > 0 for numbers in counted.values()], axis=0))
        row, queue = spread(look_up(columns, table, at), table)
        at = at[row]
        moment = rules.moments(columns)[at]
        stall = last_until(marks, Marks(queue, moment))
        # The poll that ends a stall is not in it; the refill that ends it is. Of a window that lasts
        # longer than the stall it is not known what was in the stall.
        limit = end[stall] - np.isin(columns["kind"][at], _HOT)
        inside = (stall >= 0) & (marks.queue[stall] == queue) & (columns["ts"][at].view(np.int64) <= limit)
        found, number = np.unique(stall[inside], return_inverse=True)
        for place, name in enumerate(_COUNTED):
            counts[place, order[found]] += np.bincount(number, counted[name][at[inside]], len(found)).astype(
                np.int64
            )
    return dict(zip(_COUNTED, counts, strict=True))


def _counted(columns: Columns) -> Columns:
    """Return the numbers _COUNTED of each event."""
    in_worker = rules.column("in_worker", columns)
    spins = (columns["packets"] == 0) & (columns["full_polls"] > 0)
    # The worker has a window only when it is called again and again.
    spins |= (columns["kind"] == KIND["window"]) & in_worker & (columns["failed"] > 0)
    return {name: columns[name] for name in SUMS} | {
        "spin_ns": np.where(spins, columns["dur"], 0),
        "retries": np.where(in_worker, columns["refills"], 0),
    }
