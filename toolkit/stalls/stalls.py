# SPDX-License-Identifier: GPL-2.0-only
"""From the states of a queue to its stalls: how long, why, and what the time went into."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from toolkit.drivers import Driver
from toolkit.event import KIND, NO_ORDER, NOT_KNOWN, WINDOW_NS
from toolkit.stalls import gfp, rules
from toolkit.stalls.marks import Marks, QueueTable, last_until, look_up, queue_table, spread
from toolkit.stalls.scan import SUMS, Scan
from toolkit.trace.reader import Columns, TraceReader

_HOT = [KIND["window"], KIND["poll"], KIND["irq"]]
_COUNTED = [*SUMS, "spin_ns", "retries"]
_WHOSE = ("driver", "ifindex", "queue")


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
    cause = _cause(frame, scan, drivers, reader.meta.get("gfp_flags", {}))
    cause.update(_blocked(frame, scan))
    frame = frame.join(cause)
    table = queue_table(scan.queues)
    frame = frame.join(_spent(frame, scan, table)).join(_count(reader, frame, scan, table))
    frame.insert(4, "duration_ns", frame["end_ns"] - frame["start_ns"])
    return frame


def _join(intervals: pd.DataFrame, states: Sequence[str]) -> pd.DataFrame:
    """:return: queue, state, start_ns, end_ns, open, and <state>_ns [ns] for each state."""
    names = list(dict.fromkeys(states))
    ordered = intervals.sort_values(["queue", "start"], kind="stable", ignore_index=True)
    until = ordered.groupby("queue")["end"].cummax().groupby(ordered["queue"]).shift(fill_value=-1)
    number = (ordered["start"] > until).cumsum().rename("stall")
    joined = ordered.groupby(number).agg(
        queue=("queue", "first"), start_ns=("start", "min"), end_ns=("end", "max"), open=("open", "any")
    )
    length = (ordered["end"] - ordered["start"]).groupby([number, ordered["state"]]).sum()
    parts = length.unstack(fill_value=0).reindex(columns=names, fill_value=0)
    joined.insert(1, "state", parts.idxmax(axis=1) if len(parts) else pd.Series(dtype="str"))
    parts.columns = [f"{name.replace('-', '_')}_ns" for name in names]
    return joined.join(parts).sort_values(["start_ns", "queue"], ignore_index=True)


def _touches(frame: pd.DataFrame, windows: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """:return: for each stall, whether events were dropped at any time from its start to its end."""
    start, end = np.array(windows, np.int64).reshape(-1, 2).T
    following = np.searchsorted(end, frame["start_ns"])
    return np.asarray(np.append(start, np.iinfo(np.int64).max)[following] <= frame["end_ns"])


def _cause(
    frame: pd.DataFrame, scan: Scan, drivers: Sequence[Driver], flags: Mapping[str, int]
) -> pd.DataFrame:
    """Looks for the failed refill that started each stall: the last one of the device until then.

    :return: cause, order, gfp, gfp_names, context, posted.
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
    cause = refills.reindex(own.fillna(before).fillna(within)).set_axis(frame.index)
    cause["context"] = cause["process"].map({True: "process", False: "softirq"})
    names = {mask: gfp.names(int(mask), flags) for mask in cause["gfp"].dropna().unique()}
    cause["gfp_names"] = cause["gfp"].map(names)
    other = cause["queue"].mask(cause["queue"] == frame["queue"])
    earlier = cause["ts"] < frame["start_ns"]
    reasons = cause[["context", "order", "gfp_names"]].assign(
        seen=cause["queue"].notna(), other=other, earlier=earlier
    )
    cause["cause"] = _words(reasons, lambda reason: _sentence(reason, scan, drivers))
    cause["posted"] = cause["posted_after"].where(
        (cause["posted_after"] != NOT_KNOWN) & (cause["queue"] == frame["queue"])
    )
    numbers = ["order", "gfp", "posted"]
    words = ["cause", "gfp_names", "context"]
    types = dict.fromkeys(words, "string") | dict.fromkeys(numbers, "Int64")
    return cause[list(types)].astype(types)


def _blocked(frame: pd.DataFrame, scan: Scan) -> pd.DataFrame:
    """Looks for the events that say that a queue was blocked, of a driver that refills nothing itself.

    :return: cause and posted of the stalls that begin with one.
    """
    rare = scan.rare.sort_values("ts", kind="stable")
    blocked = rare[rare["kind"] == KIND["blocked"]]
    seen = blocked[["ts", "queue", "posted_after", "stopped", "held", "some_free"]].assign(said=blocked["ts"])
    free = rare[(rare["kind"] == KIND["timer"]) & ~rare["held"].astype(bool)]
    asked = frame[["queue"]].rename_axis("stall")
    starts = asked.assign(ts=frame["start_ns"])
    first = pd.merge_asof(starts, seen, on="ts", by="queue", tolerance=0)
    # Slots that end a stall come a moment before it ends.
    ends = asked.assign(ts=frame["end_ns"].where(frame["open"], frame["end_ns"] - WINDOW_NS))
    ends = ends.reset_index().sort_values("ts", kind="stable")
    last = pd.merge_asof(ends, seen, on="ts", by="queue").set_index("stall").reindex(frame.index)
    looks = free[["ts", "queue"]].assign(freed=free["ts"])
    freed = pd.merge_asof(starts, looks, on="ts", by="queue", direction="forward")["freed"]
    found = first.assign(
        later=last["posted_after"].where(last["said"] >= frame["start_ns"]).to_numpy(),
        freed=(freed.where(freed.to_numpy() <= frame["end_ns"].to_numpy()) - starts["ts"].to_numpy()) / 1e9,
    ).set_axis(frame.index)
    found = found[found["posted_after"].notna()]
    reasons = found[["posted_after", "stopped", "held", "some_free", "later", "freed"]]
    return pd.DataFrame({"cause": _words(reasons, _why_blocked), "posted": found["posted_after"]})


def _words(rows: pd.DataFrame, say: Callable[[Mapping[Any, Any]], str]) -> pd.Series:
    """Put each row into words; rows that are the same are asked about once."""
    number = rows.groupby(list(rows), dropna=False, sort=False).ngroup()
    words = np.array([say(row) for row in rows.drop_duplicates().to_dict("records")], object)
    return pd.Series(words[number], rows.index, dtype="str")


def _why_blocked(blocked: Mapping[Any, Any]) -> str:
    """:return: why a queue was blocked, in words.

    :param blocked: the event, `later`, what was posted when it was last said before the end, and `freed`
        [s], when the driver's timer first found that skbs were free again.
    """
    posted = int(blocked["posted_after"])
    if not blocked["held"]:
        what = "queue stopped" if blocked["stopped"] else "waiting for ring slots"
        later = f", and still with {int(blocked['later'])}" if blocked["later"] > posted else ""
        return f"{what} with {posted} free{later}"
    if blocked["some_free"]:
        what = f"the network held the first skb of the pool's {posted}, though others were free"
    else:
        what = f"the network held all {posted} skbs of the pool" if posted else "the network held every skb"
    return what if pd.isna(blocked["freed"]) else f"{what}; {blocked['freed']:.1f} s later one was free"


def _failed_refills(scan: Scan) -> pd.DataFrame:
    """:return: queue, ts [ns], process, posted_after, and gfp and order of the allocation that failed."""
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


def _sentence(refill: Mapping[Any, Any], scan: Scan, drivers: Sequence[Driver]) -> str:
    """:return: the cause in words.

    :param refill: whether one was `seen`; its context, order and gfp_names; the `other` queue that it was of,
        if it was of another; and whether it ended `earlier` than the stall began.
    """
    if not refill["seen"]:
        return "no failed refill was seen"
    # The counts of the stall do not have a refill that ended before it.
    article, earlier = ("an", "earlier ") if refill["earlier"] else ("a", "")
    where = f"{earlier}{refill['context']} refill"
    if pd.notna(refill["other"]):
        other = scan.queues[int(refill["other"])]
        where += f" of {drivers[other.driver].queue_label(other.queue)}"
    if pd.isna(refill["order"]):
        return f"{where} failed ({refill['gfp_names']})"
    return f"order-{int(refill['order'])} allocation failed in {article} {where} ({refill['gfp_names']})"


def _spent(frame: pd.DataFrame, scan: Scan, table: QueueTable) -> pd.DataFrame:
    """Splits each stall's time: reclaim, the rest of refills in process context, and waiting for one.

    :return: reclaim_ns, refill_ns, waiting_ns [ns]; their sum is the duration.
    """
    rare = scan.rare
    stalled = np.zeros(len(scan.queues), np.bool_)
    stalled[frame["queue"]] = True
    refill, reclaim = (
        _disjoint(rare.loc[rows, ["queue", "start", "ts", "reclaim"]], stalled, table)
        for rows in ((rare["kind"] == KIND["refill"]) & rare["process"], rare["kind"] == KIND["reclaim"])
    )
    # Of a refill that was still running when the trace ended there is only its reclaim.
    inside = last_until(_marks(refill), _marks(reclaim, before=1)) + 1
    of_queue = np.append(refill["queue"], -1)[inside] == reclaim["queue"]
    reclaim = reclaim[~of_queue | (np.append(refill["start"], 0)[inside] > reclaim["start"])]
    in_reclaim = (refill["ts"] - refill["start"]).clip(upper=refill["reclaim"].astype(np.int64))
    alone = _within(reclaim, reclaim["ts"] - reclaim["start"], frame)
    reclaiming = _within(refill, in_reclaim, frame) + alone
    busy = _within(refill, refill["ts"] - refill["start"], frame) + alone
    waiting = frame["end_ns"] - frame["start_ns"] - busy
    return pd.DataFrame(
        {"reclaim_ns": reclaiming, "refill_ns": busy - reclaiming, "waiting_ns": waiting}, frame.index
    )


def _marks(rows: pd.DataFrame, column: str = "ts", before: int = 0) -> Marks:
    """:return: the queue of each row, and so many ns before one of its moments."""
    return Marks(rows["queue"].to_numpy(), rows[column].to_numpy() - before)


def _disjoint(rows: pd.DataFrame, stalled: NDArray[np.bool_], table: QueueTable) -> pd.DataFrame:
    """:return: the rows about each queue that stalled, by ts; each is cut to begin no earlier than the one
    before it ended."""
    row, queue = spread(rows["queue"].to_numpy(), table)
    rows = rows.iloc[row[stalled[queue]]].assign(queue=queue[stalled[queue]])
    rows = rows.iloc[np.lexsort((rows["ts"], rows["queue"]))]
    before = rows.groupby("queue")["ts"].shift(fill_value=0)
    return rows.assign(start=np.maximum(rows["start"], before))


def _within(rows: pd.DataFrame, amount: pd.Series, frame: pd.DataFrame) -> NDArray[np.int64]:
    """:return: the part of an amount, spread evenly over each row, that lies in each stall."""
    if rows.empty:
        return np.zeros(len(frame), np.int64)
    queue, start, ts = (rows[name].to_numpy() for name in ("queue", "start", "ts"))
    amounts = amount.to_numpy(np.float64)
    done = np.append(0, np.cumsum(amount.to_numpy()))
    sums = []
    for column in ("start_ns", "end_ns"):
        asked = _marks(frame, column)
        running = last_until(_marks(rows), asked) + 1
        at = np.minimum(running, len(rows) - 1)
        began = (running < len(rows)) & (queue[at] == asked.queue) & (start[at] < asked.moment)
        slope = np.divide(amounts[at], ts[at] - start[at], where=began, out=np.zeros(len(frame)))
        sums.append((done[running], slope * np.where(began, asked.moment - start[at], 0)))
    (whole, part), (whole_end, part_end) = sums
    return np.asarray(np.rint(whole_end - whole + (part_end - part)), np.int64)


def _count(reader: TraceReader, frame: pd.DataFrame, scan: Scan, table: QueueTable) -> pd.DataFrame:
    """Adds up what happened from the start of each stall to its end; reads only those chunks again.

    :return: SUMS, spin_ns [ns] in polls that used their whole budget and took no packet and in runs of the
        refill worker that failed and followed each other at once, and retries, the refills by the worker.
    """
    order = np.lexsort((frame["start_ns"], frame["queue"]))
    stalls = _marks(frame.iloc[order], "start_ns")
    end = frame["end_ns"].to_numpy()[order]
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
    """:return: _COUNTED, of each event."""
    in_worker = rules.column("in_worker", columns)
    spins = (columns["packets"] == 0) & (columns["full_polls"] > 0)
    # The worker has a window only when it is called again and again.
    spins |= (columns["kind"] == KIND["window"]) & in_worker & (columns["failed"] > 0)
    return {name: columns[name] for name in SUMS} | {
        "spin_ns": np.where(spins, columns["dur"], 0),
        "retries": np.where(in_worker, columns["refills"], 0),
    }
