# SPDX-License-Identifier: GPL-2.0-only
"""From the states of a queue to its stalls: how long, why, and what the time went into."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from toolkit.drivers import Driver
from toolkit.event import KIND, NO_ORDER, NOT_KNOWN, WINDOW_NS
from toolkit.stalls import gfp, rules
from toolkit.stalls.scan import SUMS, Scan
from toolkit.stalls.states import belonging, same_device
from toolkit.trace.reader import TraceReader

_HOT = [KIND["window"], KIND["poll"], KIND["irq"]]
_COUNTED = [*SUMS, "spin_ns", "retries"]


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
    frame = frame.join(_spent(frame, scan)).join(_count(reader, frame, scan))
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
    cause["cause"] = [
        _sentence(row, scan, drivers, int(queue))
        for row, queue in zip(cause.to_dict("records"), frame["queue"], strict=True)
    ]
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
    cause = [_why_blocked(row) for row in found.to_dict("records")]
    return pd.DataFrame({"cause": cause, "posted": found["posted_after"]}, found.index)


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


def _sentence(refill: Mapping[Any, Any], scan: Scan, drivers: Sequence[Driver], queue: int) -> str:
    """:return: the cause in words."""
    if pd.isna(refill["queue"]):
        return "no failed refill was seen"
    where = f"{refill['context']} refill"
    if int(refill["queue"]) != queue:
        other = scan.queues[int(refill["queue"])]
        where += f" of {drivers[other.driver].queue_label(other.queue)}"
    if pd.isna(refill["order"]):
        return f"{where} failed ({refill['gfp_names']})"
    return f"order-{int(refill['order'])} allocation failed in a {where} ({refill['gfp_names']})"


def _spent(frame: pd.DataFrame, scan: Scan) -> pd.DataFrame:
    """Splits each stall's time: reclaim, the rest of refills in process context, and waiting for one.

    :return: reclaim_ns, refill_ns, waiting_ns [ns]; their sum is the duration.
    """
    spent = pd.DataFrame(0, frame.index, ["reclaim_ns", "refill_ns", "waiting_ns"], np.int64)
    rare = scan.rare
    refills = rare[(rare["kind"] == KIND["refill"]) & rare["process"].astype(bool)]
    reclaims = rare[rare["kind"] == KIND["reclaim"]]
    for queue, mine in frame.groupby("queue"):
        start, end = mine["start_ns"].to_numpy(), mine["end_ns"].to_numpy()
        own = [
            index for index in range(len(scan.queues)) if int(str(queue)) in same_device(scan.queues, index)
        ]
        refill, reclaim = (_disjoint(rows[rows["queue"].isin(own)]) for rows in (refills, reclaims))
        # Of a refill that was still running when the trace ended there is only its reclaim.
        inside = np.searchsorted(refill["ts"], reclaim["ts"])
        reclaim = reclaim[np.append(refill["start"], np.inf)[inside] > reclaim["start"]]
        in_reclaim = (refill["ts"] - refill["start"]).clip(upper=refill["reclaim"].astype(np.int64))
        alone = _within(reclaim, reclaim["ts"] - reclaim["start"], start, end)
        reclaiming = _within(refill, in_reclaim, start, end) + alone
        busy = _within(refill, refill["ts"] - refill["start"], start, end) + alone
        spent.loc[mine.index, "reclaim_ns"] = reclaiming
        spent.loc[mine.index, "refill_ns"] = busy - reclaiming
        spent.loc[mine.index, "waiting_ns"] = end - start - busy
    return spent


def _disjoint(rows: pd.DataFrame) -> pd.DataFrame:
    """:return: the rows by ts, each cut to begin no earlier than the one before it ended."""
    rows = rows.sort_values("ts", kind="stable")
    return rows.assign(start=np.maximum(rows["start"], rows["ts"].shift(fill_value=0)))


def _within(
    rows: pd.DataFrame, amount: pd.Series, start: NDArray[np.int64], end: NDArray[np.int64]
) -> NDArray[np.int64]:
    """:return: the part of an amount, spread evenly over each row, that lies between start and end."""
    if rows.empty:
        return np.zeros(len(start), np.int64)
    origin = int(rows["start"].iloc[0])
    times = rows[["start", "ts"]].to_numpy().reshape(-1) - origin
    done = np.cumsum(amount.to_numpy(np.float64))
    sums = np.column_stack([done - amount.to_numpy(), done]).reshape(-1)
    both = np.interp(end - origin, times, sums) - np.interp(start - origin, times, sums)
    return np.asarray(np.rint(both), np.int64)


def _count(reader: TraceReader, frame: pd.DataFrame, scan: Scan) -> pd.DataFrame:
    """Adds up what happened from the start of each stall to its end; reads only those batches again.

    :return: SUMS, spin_ns [ns] in polls that used their whole budget and took no packet and in runs of the
        refill worker that failed and followed each other at once, and retries, the refills by the worker.
    """
    counts = np.zeros((len(frame), len(_COUNTED)))
    groups = {
        int(str(queue)): (mine.index.to_numpy(), mine["start_ns"].to_numpy(), mine["end_ns"].to_numpy())
        for queue, mine in frame.groupby("queue")
    }
    for index, (first, until, events) in enumerate(scan.batches):
        asked = [
            queue
            for queue, (_, start, end) in groups.items()
            if events and np.searchsorted(end, first) < np.searchsorted(start, until, "right")
        ]
        if not asked:
            continue
        columns = reader.columns(index)
        for queue in asked:
            rows, start, end = groups[queue]
            at = belonging(scan.queues[queue], columns)
            mine = {name: column[at] for name, column in columns.items()}
            moment = rules.moments(mine)
            stall = np.searchsorted(start, moment, "right") - 1
            # The poll that ends a stall is not in it; the refill that ends it is. Of a window that lasts
            # longer than the stall it is not known what was in the stall.
            limit = end[stall] - np.isin(mine["kind"], _HOT)
            inside = (stall >= 0) & (mine["ts"].view(np.int64) <= limit)
            in_worker = rules.column("in_worker", mine)
            retries = np.where(in_worker, mine["refills"], 0)
            spins = (mine["packets"] == 0) & (mine["full_polls"] > 0)
            # The worker has a window only when it is called again and again.
            spins |= (mine["kind"] == KIND["window"]) & in_worker & (mine["failed"] > 0)
            spin = np.where(spins, mine["dur"], 0)
            columns_of = {**mine, "spin_ns": spin, "retries": retries}
            for place, name in enumerate(_COUNTED):
                sums = np.bincount(stall[inside], columns_of[name][inside], len(rows))
                counts[rows, place] += sums
    return pd.DataFrame(counts.astype(np.int64), frame.index, _COUNTED)
