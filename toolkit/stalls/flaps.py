# SPDX-License-Identifier: GPL-2.0-only
"""When a driver itself took a device's link away and gave it back: its own idea of a stall, beside ours."""

import numpy as np
import pandas as pd

from toolkit.event import KIND
from toolkit.stalls.scan import Scan

COLUMNS = {"queue": "int64", "off_ns": "int64", "on_ns": "Int64", "deaf_ns": "Int64"}


def flaps(scan: Scan, stalls: pd.DataFrame) -> pd.DataFrame:
    """Pairs each loss of the carrier with its return.

    :param stalls: columns queue (index in scan.queues), start_ns, end_ns [ns].
    :return: queue, that of the device as a whole (index in scan.queues); off_ns, on_ns [ns], NA if it did not
        come back; deaf_ns, for how long the stall went on in which it did, 0 if in none, NA likewise. Sorted.
    """
    moves = scan.rare[scan.rare["kind"].isin([KIND["carrier_off"], KIND["carrier_on"]])]
    parts = [pd.DataFrame(columns=list(COLUMNS))]
    devices = np.array([queue.driver << 32 | queue.ifindex for queue in scan.queues], np.int64)
    for queue, mine in moves.sort_values("ts").groupby("queue"):
        off = mine["ts"][mine["kind"] == KIND["carrier_off"]].to_numpy()
        on = pd.Series(mine["ts"][mine["kind"] == KIND["carrier_on"]].to_numpy(), dtype="Int64")
        found = pd.DataFrame({"queue": queue, "off_ns": off})
        found["on_ns"] = on.reindex(np.searchsorted(on, off)).to_numpy()
        own = stalls[devices[stalls["queue"]] == devices[int(str(queue))]]
        found["deaf_ns"] = _left(own, found["on_ns"])
        parts.append(found)
    joined = pd.concat([part for part in parts if len(part)] or parts).astype(COLUMNS)
    return joined.sort_values("off_ns", ignore_index=True)


def _left(stalls: pd.DataFrame, moments: pd.Series) -> pd.Series:
    """:return: [ns] from each moment to the end of the stall of that time; 0 if there was none."""
    ordered = stalls.sort_values("start_ns")
    ends = np.append(0, np.maximum.accumulate(ordered["end_ns"]))
    begun = np.searchsorted(ordered["start_ns"], moments.fillna(0), "right")
    return (pd.Series(ends[begun], moments.index) - moments).clip(lower=0)
