# SPDX-License-Identifier: GPL-2.0-only
"""Times outside of stalls without a frame: a refill or a poll took long, or no poll came."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from toolkit.driver import Driver
from toolkit.event import KIND, NOBODY
from toolkit.stalls import spans
from toolkit.stalls.scan import Scan
from toolkit.stalls.slow import SLOW_POLL, SLOW_REFILL, UNPOLLED
from toolkit.stalls.thresholds import Thresholds
from toolkit.trace.reader import Columns

MEANS = {
    SLOW_REFILL: "a refill inside a poll takes long, though it may succeed: nobody takes frames meanwhile",
    SLOW_POLL: "a poll takes long outside of its refill: the frames after those that it took wait",
    UNPOLLED: "NAPI is due and no poll begins: the CPU is at something else, or takes no interrupt",
}


_STATES = list(MEANS)
_KINDS = [KIND["window"], KIND["poll"], KIND["refill"], KIND["late"]]


def told(meta: Mapping[str, Any]) -> list[str]:
    """Return the states that a trace can tell: whether polls are waited for only with a hook for it."""
    scheduling = _hooked(meta, "rxt_schedule")
    return [state for state in MEANS if state != UNPOLLED or scheduling]


def tells_threads(meta: Mapping[str, Any]) -> bool:
    """Tell whether a trace says which thread had the CPU while a poll was waited for."""
    return _hooked(meta, "rxt_switch")


def _hooked(meta: Mapping[str, Any], program: str) -> bool:
    hooks = (hook for traced in meta["drivers"] for hook in traced.get("hooks", []))
    return any(hook["program"] == program and hook.get("attached") for hook in hooks)


def silences(scan: Scan, drivers: Sequence[Driver], stalls: Columns, thresholds: Thresholds) -> Columns:
    """Find refills in softirq, polls and waits for a poll that take long, of queues that NAPI polls.

    The probes add nothing to a window that is longer than RXT_WINDOW_NS (rxt_extend): a window of this length
    and longer is one refill, or one poll and the short refills in it. What is in a stall is left
    out, and of a poll the slow refills inside it.

    :param stalls: columns queue (index in scan.queues), start_ns, end_ns [ns].
    :param thresholds: how long a silence is at least.
    :return: queue, state (index in MEANS), start_ns, end_ns, duration_ns [ns], and tid, the thread of a wait,
        which is NOBODY for none and for the other states; sorted by start_ns.
    """
    rare, shortest = scan.rare, thresholds.silence_over_ns
    napi = np.array([drivers[queue.driver].by_napi for queue in scan.queues], np.bool_)
    slow = (rare["ts"] - rare["start"] >= shortest) & ~rare["process"] & napi[rare["queue"]]
    at = np.flatnonzero(slow & np.isin(rare["kind"], _KINDS))
    late, polled = rare["kind"][at] == KIND["late"], rare["polls"][at] > 0
    state = np.select([late, polled], [_STATES.index(UNPOLLED), _STATES.index(SLOW_POLL)], 0)
    found = []
    for queue in np.unique(rare["queue"][at]):
        mine = rare["queue"][at] == queue
        stalled = stalls["queue"] == queue
        taken = spans.union(stalls["start_ns"][stalled], stalls["end_ns"][stalled])
        for number in range(len(_STATES)):
            rows = at[mine & (state == number)]
            if not len(rows):
                continue
            parts = spans.without(spans.union(rare["start"][rows], rare["ts"][rows]), taken)
            parts = parts[parts[:, 1] - parts[:, 0] >= shortest]
            taken = spans.union(*np.concatenate([taken, parts]).T)
            rows = rows[np.argsort(rare["start"][rows], kind="stable")]
            whose = rows[np.searchsorted(rare["start"][rows], parts[:, 0], "right") - 1]
            tid = np.where(rare["kind"][whose] == KIND["late"], rare["tid"][whose], NOBODY)
            found.append(np.column_stack([np.full((len(parts), 2), [queue, number]), parts, tid]))
    rows = np.concatenate([np.empty((0, 5), np.int64), *found])
    queues, states, start, end, tid = rows[np.lexsort((rows[:, 0], rows[:, 2]))].T
    times = {"start_ns": start, "end_ns": end, "duration_ns": end - start}
    return {"queue": queues, "state": states, **times, "tid": tid}
