# SPDX-License-Identifier: GPL-2.0-only
"""The tables that a driver declares of events of its own: pairs of events, and events that last."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from toolkit.drivers import Driver, Table
from toolkit.stalls.scan import Scan

_PAIRS = {"queue": "int64", "begin_ns": "int64", "end_ns": "Int64", "after_ns": "Int64"}
_DURATIONS = {"queue": "int64", "count": "int64", "p50_ns": "Int64", "p99_ns": "Int64", "max_ns": "Int64"}


def tables(scan: Scan, drivers: Sequence[Driver], stalls: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Make the tables of the drivers of a trace (``[[table]]`` in driver.toml).

    :param stalls: columns queue (index in scan.queues), start_ns, end_ns [ns].
    :return: by name, a frame as `_pairs` or `_durations` gives it.
    """
    found = {}
    number = np.array([queue.driver for queue in scan.queues], np.intp)
    for index, driver in enumerate(drivers):
        for table in driver.tables:
            rare = scan.rare[number[scan.rare["queue"]] == index]
            found[table.name] = _durations(table, rare) if table.lasts else _pairs(table, rare, scan, stalls)
    return found


def _pairs(table: Table, rare: pd.DataFrame, scan: Scan, stalls: pd.DataFrame) -> pd.DataFrame:
    """Pair each event of the first kind with the next of the second, which ends it.

    :return: queue (index in scan.queues); begin_ns, end_ns [ns], null if nothing ended it; after_ns, for how
        long the stall went on in which it ended, 0 if in none, null likewise. Sorted by begin_ns.
    """
    begin, end = table.pair or (0, 0)
    moves = rare[rare["kind"].isin([begin, end])]
    parts = [pd.DataFrame(columns=list(_PAIRS))]
    devices = np.array([queue.driver << 32 | queue.ifindex for queue in scan.queues], np.int64)
    for queue, mine in moves.sort_values("ts").groupby("queue"):
        begins = mine["ts"][mine["kind"] == begin].to_numpy()
        ends = pd.Series(mine["ts"][mine["kind"] == end].to_numpy(), dtype="Int64")
        found = pd.DataFrame({"queue": queue, "begin_ns": begins})
        found["end_ns"] = ends.reindex(np.searchsorted(ends, begins)).to_numpy()
        own = stalls[devices[stalls["queue"]] == devices[int(str(queue))]]
        found["after_ns"] = _left(own, found["end_ns"])
        parts.append(found)
    joined = pd.concat([part for part in parts if len(part)] or parts).astype(_PAIRS)
    return joined.sort_values("begin_ns", ignore_index=True)


def _left(stalls: pd.DataFrame, moments: pd.Series) -> pd.Series:
    """Return the time [ns] from each moment to the end of the stall of that time; 0 if there was none."""
    ordered = stalls.sort_values("start_ns")
    ends = np.append(0, np.maximum.accumulate(ordered["end_ns"]))
    begun = np.searchsorted(ordered["start_ns"], moments.fillna(0), "right")
    return (pd.Series(ends[begun], moments.index) - moments).clip(lower=0)


def _durations(table: Table, rare: pd.DataFrame) -> pd.DataFrame:
    """Sum up events that last, as far as they were sent one by one.

    :return: by queue (index in scan.queues) that had any: count; p50_ns, p99_ns and max_ns [ns], how long
        they took; and the number of events of each further kind that the table names.
    """
    took = (rare["ts"] - rare["start"])[rare["kind"] == table.lasts]
    ended = took.groupby(rare["queue"])
    also = {
        column.name: rare["queue"][rare["kind"] == column.kind].value_counts()
        for column in table.also
        if column.kind
    }
    found = pd.DataFrame({"count": ended.size(), **also}).fillna(0)
    for name, share in (("p50_ns", 0.5), ("p99_ns", 0.99), ("max_ns", 1.0)):
        found[name] = np.floor(ended.quantile(share))
    types = {**_DURATIONS, **dict.fromkeys(also, "int64")}
    return found.rename_axis("queue").reset_index()[list(types)].astype(types)
