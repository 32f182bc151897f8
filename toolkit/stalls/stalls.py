# SPDX-License-Identifier: GPL-2.0-only
"""From the states of a queue to its stalls: how long, why, and what the time went into."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from toolkit.drivers import Driver
from toolkit.event import KIND, NO_ORDER, NOT_KNOWN, WINDOW_NS
from toolkit.stalls import rules
from toolkit.stalls.marks import Marks, QueueTable, last_until, latest, look_up, queue_table, spread
from toolkit.stalls.scan import SUMS, Scan
from toolkit.trace import gfp
from toolkit.trace.reader import Columns, TraceReader

_HOT = [KIND["window"], KIND["poll"], KIND["irq"]]
_COUNTED = [*SUMS, "spin_ns", "retries"]
_WHOSE = ("driver", "ifindex", "queue")

NOT_SEEN = "no_failure_seen"
ALLOCATION = "allocation_failed"
REFILL = "refill_failed"
BEFORE = "before_trace"
"""Causes that any driver's stall may have, beside those of its own: by the failed refill that began it."""

FIRST_LOOK_NS = 2_000_000_000
"""The first look at all queues is at the latest so long after a trace began: it is made at once."""

_CAUSE = {
    "cause": "string",
    "cause_queue": "Int64",
    "cause_earlier": "boolean",
    "gfp_names": "string",
    "context": "string",
    "order": "Int64",
    "gfp": "Int64",
    "posted": "Int64",
    "posted_later": "Int64",
    "relieved_ns": "Int64",
}
"""What is known of the cause of a stall (docs/stalls.md)."""


def stalls(
    reader: TraceReader, drivers: Sequence[Driver], scan: Scan, intervals: pd.DataFrame
) -> pd.DataFrame:
    """Joins states that overlap or touch into stalls, and says what there is to say about each.

    :param intervals: the states of the queues (states.intervals).
    :return: one row for each stall, sorted by start; the columns are those of docs/stalls.md, with
        `queue` an index in scan.queues.
    """
    frame = _join(intervals, [state.name for driver in drivers for state in driver.states])
    frame["uncertain"] = _touches(frame, scan.losses)
    causes = _refill_causes(frame, scan, reader.meta.get("gfp_flags", {}))
    if any(driver.causes for driver in drivers):
        own = _own_causes(frame, scan, drivers)
        causes.loc[own.index] = own.reindex(columns=list(_CAUSE)).astype(_CAUSE)
    frame = frame.join(causes)
    table = queue_table(scan.queues)
    frame = frame.join(_spent(frame, scan, table)).join(_count(reader, frame, scan, table))
    frame.insert(4, "duration_ns", frame["end_ns"] - frame["start_ns"])
    return frame


def _join(intervals: pd.DataFrame, states: Sequence[str]) -> pd.DataFrame:
    """Return queue, state, start_ns, end_ns, open, and <state>_ns [ns] for each state."""
    names = list(dict.fromkeys(states))
    queue, start, end, still = (intervals[name].to_numpy() for name in ("queue", "start", "end", "open"))
    order = np.lexsort((start, queue))
    queue, start, end, still = queue[order], start[order], end[order], still[order]
    until = latest(Marks(queue, end))
    new = np.ones(len(order), np.bool_)
    new[1:] = (queue[1:] != queue[:-1]) | (start[1:] > until[:-1])
    first = np.flatnonzero(new)
    parts = np.zeros((len(first), len(names)), np.int64)
    state = pd.Index(names).get_indexer(pd.Index(intervals["state"]))[order]
    np.add.at(parts, (np.cumsum(new) - 1, state), end - start)
    joined = pd.DataFrame(
        {
            "queue": queue[first],
            "state": pd.Series(np.array(names, object)[parts.argmax(axis=1)], dtype="str"),
            "start_ns": start[first],
            "end_ns": np.maximum.reduceat(end, first),
            "open": np.logical_or.reduceat(still, first),
        }
        | {f"{name.replace('-', '_')}_ns": parts[:, place] for place, name in enumerate(names)}
    )
    return joined.sort_values(["start_ns", "queue"], ignore_index=True)


def _touches(frame: pd.DataFrame, windows: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """Tell for each stall whether events were dropped at any time from its start to its end."""
    start, end = np.array(windows, np.int64).reshape(-1, 2).T
    following = np.searchsorted(end, frame["start_ns"])
    return np.asarray(np.append(start, np.iinfo(np.int64).max)[following] <= frame["end_ns"])


def _refill_causes(frame: pd.DataFrame, scan: Scan, flags: Mapping[str, int]) -> pd.DataFrame:
    """Look for the failed refill that started each stall: the last one of the device until then.

    :return: the columns of _CAUSE.
    """
    refills = _failed_refills(scan)
    device = np.array([queue.driver << 32 | queue.ifindex for queue in scan.queues], np.int64)
    left = pd.DataFrame(
        {"ts": frame["start_ns"], "queue": frame["queue"], "device": device[frame["queue"]]}
    ).rename_axis("stall")
    right = refills.assign(device=device[refills["queue"]], refill=np.arange(len(refills)))
    own = pd.merge_asof(left, right.drop(columns="device"), on="ts", by="queue", tolerance=0)["refill"]
    before = pd.merge_asof(left, right.drop(columns="queue"), on="ts", by="device")["refill"]
    # A window that began the state holds the refill that failed: it was sent right after.
    after = pd.merge_asof(left, right.drop(columns="device"), on="ts", by="queue", direction="forward")[
        "refill"
    ]
    within = after.where(refills["ts"].reindex(after).to_numpy() <= frame["end_ns"].to_numpy())
    found = refills.reindex(own.fillna(before).fillna(within)).set_axis(frame.index)
    found["context"] = found["process"].map({True: "process", False: "softirq"})
    names = {mask: gfp.names(int(mask), flags) for mask in found["gfp"].dropna().unique()}
    found["gfp_names"] = found["gfp"].map(names)
    seen, other = found["queue"].notna(), found["queue"] != frame["queue"]
    numbers = np.array([queue.queue for queue in scan.queues], np.int64)
    older = ~seen & _began_before_the_trace(frame, scan)
    causes = [BEFORE, NOT_SEEN, ALLOCATION]
    found["cause"] = np.select([older, ~seen, found["order"].notna()], causes, REFILL)
    found["cause_queue"] = pd.Series(numbers, dtype="Int64").reindex(found["queue"].mask(~other)).to_numpy()
    found["cause_earlier"] = (found["ts"] < frame["start_ns"]).astype("boolean").mask(~seen)
    found["posted"] = found["posted_after"].where((found["posted_after"] != NOT_KNOWN) & ~other)
    return found.reindex(columns=list(_CAUSE)).astype(_CAUSE)


def _began_before_the_trace(frame: pd.DataFrame, scan: Scan) -> NDArray[np.bool_]:
    """Tell the stalls that the first look at a queue found under way."""
    rare = scan.rare[(scan.rare["kind"] == KIND["look"]) & (scan.rare["ts"] < scan.began + FIRST_LOOK_NS)]
    looks = pd.MultiIndex.from_frame(rare[["queue", "ts"]])
    early = np.flatnonzero(frame["start_ns"] < scan.began + FIRST_LOOK_NS)
    found = np.zeros(len(frame), np.bool_)
    found[early] = pd.MultiIndex.from_frame(frame[["queue", "start_ns"]].iloc[early]).isin(looks)
    return found


def _own_causes(frame: pd.DataFrame, scan: Scan, drivers: Sequence[Driver]) -> pd.DataFrame:
    """Look for the causes that a driver declares, by the event that began each stall.

    :return: cause, posted, posted_later and relieved_ns of the stalls that begin with such an event.
    """
    rare = scan.rare.sort_values("ts", kind="stable")
    number = np.array([queue.driver for queue in scan.queues], np.intp)[rare["queue"]]
    columns = {str(name): rare[name].to_numpy() for name in rare}
    causes = [(index, cause) for index, driver in enumerate(drivers) for cause in driver.causes]
    which = np.full(len(rare), -1)
    relief = np.zeros(len(rare), np.bool_)
    for place, (index, cause) in reversed(list(enumerate(causes))):
        at = rules.rows([cause.when], columns)
        which[at[number[at] == index]] = place
        if cause.relief:
            at = rules.rows([cause.relief], columns)
            relief[at[number[at] == index]] = True
    told = rare.assign(which=which, told=rare["ts"])[["ts", "queue", "posted_after", "which", "told"]]
    told = told[which >= 0]
    asked = frame[["queue"]].rename_axis("stall")
    starts = asked.assign(ts=frame["start_ns"])
    first = pd.merge_asof(starts, told, on="ts", by="queue", tolerance=0)
    # What ends a stall comes a moment before it ends.
    ends = asked.assign(ts=frame["end_ns"].where(frame["open"], frame["end_ns"] - WINDOW_NS))
    ends = ends.reset_index().sort_values("ts", kind="stable")
    last = pd.merge_asof(ends, told, on="ts", by="queue").set_index("stall").reindex(frame.index)
    reliefs = rare.assign(relieved=rare["ts"])[["ts", "queue", "relieved"]][relief]
    relieved = pd.merge_asof(starts, reliefs, on="ts", by="queue", direction="forward")["relieved"]
    later = last["posted_after"].where(last["told"] >= frame["start_ns"]).to_numpy()
    found = first.set_axis(frame.index).assign(later=later, relieved=relieved.to_numpy())
    found = found[found["which"].notna()]
    mine = [causes[int(place)][1] for place in found["which"]]
    goes_on = np.array([bool(cause.later) for cause in mine], np.bool_)
    eased = np.array([cause.relief is not None for cause in mine], np.bool_)
    within = eased & (found["relieved"] <= frame["end_ns"].reindex(found.index))
    return pd.DataFrame(
        {
            "cause": [cause.name for cause in mine],
            "posted": found["posted_after"],
            "posted_later": found["later"].where(goes_on & (found["later"] > found["posted_after"])),
            "relieved_ns": (found["relieved"] - found["ts"]).where(within),
        },
        found.index,
    ).astype({name: _CAUSE[name] for name in ("cause", "posted", "posted_later", "relieved_ns")})


def _failed_refills(scan: Scan) -> pd.DataFrame:
    """Return queue, ts [ns], process, posted_after, and gfp and order of the allocation that failed."""
    rare = scan.rare.sort_values("ts", kind="stable")
    refills = rare[(rare["kind"] == KIND["refill"]) & ~rare["complete"].astype(bool)]
    refills = refills.assign(own_order=refills["order"].mask(refills["order"] == NO_ORDER))
    allocations = rare.loc[rare["kind"] == KIND["alloc_fail"], ["ts", "queue", "order", "gfp"]]
    found = pd.merge_asof(
        refills.drop(columns="order"),
        allocations.assign(failed_at=allocations["ts"]),
        on="ts",
        by="queue",
        suffixes=("", "_failed"),
    )
    inside = found["failed_at"] >= found["start"]
    return pd.DataFrame(
        {
            "queue": found["queue"],
            "ts": found["ts"],
            "process": found["process"].astype(bool),
            "posted_after": found["posted_after"],
            "gfp": found["gfp_failed"].where(inside, found["gfp"]),
            # Of many failures not every allocation is sent by itself.
            "order": found["order"].where(inside, found["own_order"]),
        }
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


def _spent(frame: pd.DataFrame, scan: Scan, table: QueueTable) -> pd.DataFrame:
    """Splits each stall's time: reclaim, the rest of refills in process context, and waiting for one.

    :return: reclaim_ns, refill_ns, waiting_ns [ns]; their sum is the duration.
    """
    kind, process = scan.rare["kind"].to_numpy(), scan.rare["process"].to_numpy()
    stalled = np.zeros(len(scan.queues), np.bool_)
    stalled[frame["queue"]] = True
    refill = _disjoint(scan.rare, (kind == KIND["refill"]) & process, stalled, table)
    reclaim = _disjoint(scan.rare, kind == KIND["reclaim"], stalled, table)
    # Of a refill that was still running when the trace ended there is only its reclaim.
    inside = last_until(Marks(refill.queue, refill.ts), Marks(reclaim.queue, reclaim.ts - 1)) + 1
    of_queue = np.append(refill.queue, -1)[inside] == reclaim.queue
    alone = ~of_queue | (np.append(refill.start, 0)[inside] > reclaim.start)
    reclaim = _Work(*(column[alone] for column in reclaim))
    only_reclaim = _within(reclaim, reclaim.length, frame)
    reclaiming = _within(refill, np.minimum(refill.length, refill.reclaim), frame) + only_reclaim
    busy = _within(refill, refill.length, frame) + only_reclaim
    waiting = (frame["end_ns"] - frame["start_ns"]).to_numpy() - busy
    return pd.DataFrame(
        {"reclaim_ns": reclaiming, "refill_ns": busy - reclaiming, "waiting_ns": waiting}, frame.index
    )


def _marks(frame: pd.DataFrame, column: str) -> Marks:
    """Return the queue of each stall, and one of its moments."""
    return Marks(frame["queue"].to_numpy(), frame[column].to_numpy())


def _disjoint(
    rare: pd.DataFrame, rows: NDArray[np.bool_], stalled: NDArray[np.bool_], table: QueueTable
) -> _Work:
    """Return what these events say about each queue that stalled; each is cut to begin no earlier than the
    one before it ended."""
    at = np.flatnonzero(rows)
    row, queue = spread(rare["queue"].to_numpy()[at], table)
    row, queue = at[row[stalled[queue]]], queue[stalled[queue]]
    order = np.lexsort((rare["ts"].to_numpy()[row], queue))
    row, queue = row[order], queue[order]
    start, ts, reclaim = (
        rare[name].to_numpy()[row].astype(np.int64, copy=False) for name in ("start", "ts", "reclaim")
    )
    again = queue[1:] == queue[:-1]
    start[1:][again] = np.maximum(start[1:], ts[:-1])[again]
    return _Work(queue, np.maximum(start, 0), ts, reclaim)


def _within(work: _Work, amount: NDArray[np.int64], frame: pd.DataFrame) -> NDArray[np.int64]:
    """Return the part of an amount, spread evenly over each, that lies in each stall."""
    queue, start, ts, _ = work
    if not len(queue):
        return np.zeros(len(frame), np.int64)
    amounts = amount.astype(np.float64)
    done = np.append(0, np.cumsum(amount))
    sums = []
    for column in ("start_ns", "end_ns"):
        asked = _marks(frame, column)
        running = last_until(Marks(queue, ts), asked) + 1
        at = np.minimum(running, len(queue) - 1)
        began = (running < len(queue)) & (queue[at] == asked.queue) & (start[at] < asked.moment)
        slope = np.divide(amounts[at], ts[at] - start[at], where=began, out=np.zeros(len(frame)))
        sums.append((done[running], slope * np.where(began, asked.moment - start[at], 0)))
    (whole, part), (whole_end, part_end) = sums
    return np.asarray(np.rint(whole_end - whole + (part_end - part)), np.int64)


def _count(reader: TraceReader, frame: pd.DataFrame, scan: Scan, table: QueueTable) -> pd.DataFrame:
    """Adds up what happened from the start of each stall to its end; reads only those chunks again.

    :return: SUMS, spin_ns [ns] in polls that used their whole budget and took no packet and in runs of the
        refill worker that failed and followed each other at once, and retries, the refills by the worker.
    """
    queue, start, end = (frame[name].to_numpy() for name in ("queue", "start_ns", "end_ns"))
    order = np.lexsort((start, queue))
    stalls, end = Marks(queue[order], start[order]), end[order]
    counts = np.zeros((len(frame), len(_COUNTED)), np.int64)
    starts, ends = np.sort(stalls.moment), np.sort(end)
    for index, (first, until, events) in enumerate(scan.chunks):
        if not events or np.searchsorted(ends, first) == np.searchsorted(starts, until, "right"):
            continue
        columns = reader.chunk(index)
        counted = _counted(columns)
        at = np.flatnonzero(np.any(list(counted.values()), axis=0))
        row, queue = spread(look_up({name: columns[name][at] for name in _WHOSE}, table), table)
        at = at[row]
        moment = rules.moments(columns)[at]
        stall = last_until(stalls, Marks(queue, moment))
        # The poll that ends a stall is not in it; the refill that ends it is. Of a window that lasts
        # longer than the stall it is not known what was in the stall.
        limit = end[stall] - np.isin(columns["kind"][at], _HOT)
        inside = (stall >= 0) & (stalls.queue[stall] == queue) & (columns["ts"][at].view(np.int64) <= limit)
        found, number = np.unique(stall[inside], return_inverse=True)
        for place, name in enumerate(_COUNTED):
            counts[order[found], place] += np.bincount(number, counted[name][at[inside]], len(found)).astype(
                np.int64
            )
    return pd.DataFrame(counts, frame.index, _COUNTED)


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
