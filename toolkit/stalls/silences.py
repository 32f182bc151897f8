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

SLOW_REFILL = "slow-refill"
SLOW_POLL = "slow-poll"
UNPOLLED = "unpolled"

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
    found: list[pd.DataFrame] = []
    for queue, mine in rows.groupby("queue"):
        late = (mine["kind"] == KIND["late"]).to_numpy()
        polled = (mine["polls"] > 0).to_numpy()
        own = stalls[stalls["queue"] == queue]
        taken = _spans(own, "start_ns", "end_ns")
        for state, part in (
            (SLOW_REFILL, mine[~polled & ~late]),
            (SLOW_POLL, mine[polled]),
            (UNPOLLED, mine[late]),
        ):
            parts = spans.without(_spans(part, "start", "ts"), taken)
            parts = parts[parts[:, 1] - parts[:, 0] >= SLOW_NS]
            taken = spans.union(*np.concatenate([taken, parts]).T)
            found.append(
                pd.DataFrame({"queue": queue, "state": state, "start_ns": parts[:, 0], "end_ns": parts[:, 1]})
            )
    types = {"queue": "int64", "state": "str", "start_ns": "int64", "end_ns": "int64"}
    joined = pd.concat(found) if found else pd.DataFrame(columns=list(types))
    return joined.astype(types).sort_values(["start_ns", "queue"], ignore_index=True)


def _spans(rows: pd.DataFrame, start: str, end: str) -> spans.Spans:
    return spans.union(rows[start].to_numpy(np.int64), rows[end].to_numpy(np.int64))
