# SPDX-License-Identifier: GPL-2.0-only
"""Times outside of stalls without a frame: a refill or a poll took long, or no poll came."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from toolkit.drivers import Driver
from toolkit.event import KIND
from toolkit.stalls import spans
from toolkit.stalls.scan import SLOW_NS, Scan
from toolkit.stalls.slow import SLOW_POLL, SLOW_REFILL, UNPOLLED

MEANS = {
    SLOW_REFILL: "a refill inside a poll takes long, though it may succeed: nobody takes frames meanwhile",
    SLOW_POLL: "a poll takes long outside of its refill: the frames after those that it took wait",
    UNPOLLED: "NAPI is scheduled and no poll begins: the CPU is at something else",
}


def told(meta: Mapping[str, Any]) -> list[str]:
    """Return the states that a trace can tell: whether polls are waited for only with a hook for it."""
    hooks = (hook for traced in meta["drivers"] for hook in traced.get("hooks", []))
    scheduling = any(hook["program"] == "rxt_schedule" and hook.get("attached") for hook in hooks)
    return [state for state in MEANS if state != UNPOLLED or scheduling]


def silences(scan: Scan, drivers: Sequence[Driver], stalls: pd.DataFrame) -> pd.DataFrame:
    """Find refills in softirq, polls and waits for a poll of SLOW_NS and longer, of drivers that have NAPI.

    The probes add nothing to a window that is longer than RXT_WINDOW_NS (rxt_extend): a window of SLOW_NS
    and longer is one refill or one poll. What is in a stall is left out, and of a poll the slow refills
    inside it.

    :param stalls: columns queue (index in scan.queues), start_ns, end_ns [ns].
    :return: queue, state, start_ns, end_ns [ns]; each at least SLOW_NS long, sorted by start_ns.
    """
    rare = scan.rare
    napi = np.array([bool(drivers[queue.driver].poll) for queue in scan.queues], np.bool_)
    slow = ((rare["ts"] - rare["start"]).to_numpy() >= SLOW_NS) & ~rare["process"].to_numpy(np.bool_)
    slow &= np.isin(rare["kind"], [KIND["window"], KIND["poll"], KIND["refill"], KIND["late"]])
    rows = rare[slow & napi[rare["queue"]]] if slow.any() else rare[:0]
    none = stalls.iloc[:0]
    stalled = dict(iter(stalls[stalls["queue"].isin(rows["queue"])].groupby("queue")))
    found: list[tuple[int, str, spans.Spans]] = []
    for queue, mine in rows.groupby("queue"):
        late, polled = (mine["kind"] == KIND["late"]).to_numpy(), (mine["polls"] > 0).to_numpy()
        taken = _spans(stalled.get(queue, none), "start_ns", "end_ns")
        for state, part in (
            (SLOW_REFILL, mine[~polled & ~late]),
            (SLOW_POLL, mine[polled]),
            (UNPOLLED, mine[late]),
        ):
            parts = spans.without(_spans(part, "start", "ts"), taken)
            parts = parts[parts[:, 1] - parts[:, 0] >= SLOW_NS]
            taken = spans.union(*np.concatenate([taken, parts]).T)
            found.append((int(str(queue)), state, parts))
    queues, states, each = zip(*found, strict=True) if found else ((), (), ())
    counts = [len(parts) for parts in each]
    edges = np.concatenate([np.empty((0, 2), np.int64), *each])
    joined = pd.DataFrame(
        {
            "queue": np.repeat(np.array(queues, np.int64), counts),
            "state": pd.Series(np.repeat(np.array(states, object), counts), dtype="str"),
            "start_ns": edges[:, 0],
            "end_ns": edges[:, 1],
        }
    )
    return joined.sort_values(["start_ns", "queue"], ignore_index=True)


def _spans(rows: pd.DataFrame, start: str, end: str) -> spans.Spans:
    return spans.union(rows[start].to_numpy(np.int64), rows[end].to_numpy(np.int64))
