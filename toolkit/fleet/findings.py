# SPDX-License-Identifier: GPL-2.0-only
"""Find who is silent, how long, in what state and for what cause: functions from frames to small frames."""

import re

import pandas as pd

from toolkit.fleet.dataset import WHOLE
from toolkit.fleet.frames import STALL, Fleet, by_place

HOUR_NS = 3_600_000_000_000
_NUMBER = re.compile(r"\d[\d,.]*\b")

GROUPS = {
    "host": ["host"],
    "device": ["host", "device"],
    "kernel": ["kernel"],
    "driver": ["driver"],
    "build": ["driver", "build"],
}
"""By what the silences are added up, and the columns that name a group."""


def silent(fleet: Fleet, group: str) -> pd.DataFrame:
    """Add up the silences of each host, device, kernel, driver or build.

    :param group: one of GROUPS.
    :return: one row for each, the one that is silent for the largest part of its traced time first. The
        columns that name it, null where that is not known; `hosts` (known ones) and `traces`; `silent`, how
        many of the traces had a stall or another silence of 10 ms or longer; traced_ns; `stalls`; stalled_ns,
        in stalls; silent_ns, outside of stalls, null if no queue of the group can tell; silence_ns, the sum
        of both; silence_ns_per_h, for each hour that was traced; longest_ns and `open`, of the stalls;
        `state`, in which most of the time was spent, and `cause`, of most of the stalled time.
    """
    keys = GROUPS[group]
    if "device" in keys:
        # A device is silent in a trace if one of its queues is.
        lengths = fleet.traces[["place", "duration_ns"]].drop_duplicates("place")
        rows = _of_devices(fleet.queues).merge(lengths, on="place", how="left")
    else:
        rows = fleet.traces if "driver" in keys else by_place(fleet.traces)
        rows = rows[rows["duration_ns"].notna()]
    groups = rows.groupby(keys, dropna=False, observed=True)
    found = groups.agg(
        hosts=("host", "nunique"),
        traces=("place", "size"),
        silent=("silent", "sum"),
        traced_ns=("duration_ns", "sum"),
        stalls=("stalls", "sum"),
        stalled_ns=("stalled_ns", "sum"),
        silence_ns=("silence_ns", "sum"),
        longest_ns=("longest_ns", "max"),
        open=("open", "sum"),
    )
    found.insert(5, "silent_ns", groups["silent_ns"].sum(min_count=1))
    found.insert(7, "silence_ns_per_h", rate(found["silence_ns"], found["traced_ns"]))
    found = found.reset_index()
    intervals = fleet.intervals
    found["state"] = _most(intervals, keys, "state", found)
    found["cause"] = _most(intervals[intervals["what"] == STALL], keys, "cause", found)
    # All hosts that are not known are one row, which is no host: it comes last.
    order = found.assign(known=found[keys[0]].notna())
    order = order.sort_values(["known", "silence_ns_per_h", "traced_ns"], ascending=False, ignore_index=True)
    return order.drop(columns="known")


def rate(amounts: pd.Series, traced_ns: pd.Series) -> pd.Series:
    """Return amounts for each hour that was traced; null where nothing was."""
    hours = traced_ns.astype("Float64") / HOUR_NS
    return amounts.astype("Float64") / hours.where(hours > 0)


def parts(fleet: Fleet, group: str) -> pd.DataFrame:
    """Return the time [ns] that each group was silent in each state: a row for each group with a silence, and
    a column for each state, that with most time first."""
    groups = fleet.intervals.groupby([*GROUPS[group], "state"], dropna=False, observed=True)
    sums = groups["duration_ns"].sum().unstack("state").fillna(0).astype("float64")
    sums.columns = sums.columns.astype("str")
    return sums[sums.sum().sort_values(ascending=False).index]


def states(fleet: Fleet) -> pd.DataFrame:
    """Return for each state: `what` it is (a stall or another silence), `intervals`, how many there were,
    duration_ns, their sum, longest_ns, and `hosts` and `traces` in which they were; the costliest first."""
    return _costliest(fleet.intervals, ["state", "what"])


def why(fleet: Fleet) -> pd.DataFrame:
    """Return for each driver and cause of stalls, with `order`, `gfp_names` and `context` of the allocation
    that failed, the columns of `states`; and `posted` and `most`, the fewest and most buffers posted."""
    stalls = fleet.intervals[fleet.intervals["what"] == STALL]
    keys = ["driver", "cause", "context", "order", "gfp_names"]
    found = _costliest(stalls, keys)
    posted = stalls.groupby(keys, dropna=False, observed=True)["posted"].agg(posted="min", most="max")
    return found.merge(posted.reset_index(), on=keys)


def reasons(traces: pd.DataFrame) -> pd.DataFrame:
    """Return how many traces are whole, and how many are not for which reason: `status`, `reason`, `traces`,
    and `example`, the place of one; whole traces first, then the most frequent.

    A reason names its trace, and says how much of it can be read: here it is the same for all such traces.
    """
    rows = by_place(traces)[["status", "reason", "place"]].astype("object")
    known = rows["reason"].notna()
    rows.loc[known, "reason"] = [
        _NUMBER.sub("…", reason.replace(place, "the trace"))
        for reason, place in zip(rows.loc[known, "reason"], rows.loc[known, "place"], strict=True)
    ]
    groups = rows.groupby(["status", "reason"], dropna=False)["place"]
    found = groups.agg(traces="size", example="first").reset_index()
    order = found.assign(whole=found["status"] == WHOLE)
    order = order.sort_values(["whole", "traces"], ascending=False, ignore_index=True)
    return order.drop(columns="whole")


def _of_devices(queues: pd.DataFrame) -> pd.DataFrame:
    """Return the sums of the queues of each device in each trace."""
    groups = queues.groupby(["place", "host", "device"], dropna=False, observed=True)
    found = groups.agg(
        silent=("silent", "max"),
        stalls=("stalls", "sum"),
        stalled_ns=("stalled_ns", "sum"),
        silence_ns=("silence_ns", "sum"),
        longest_ns=("longest_ns", "max"),
        open=("open", "sum"),
    )
    return found.assign(silent_ns=groups["silent_ns"].sum(min_count=1)).reset_index()


def _most(intervals: pd.DataFrame, keys: list[str], column: str, found: pd.DataFrame) -> pd.Series:
    """Return for each group the value of a column in which most of its time was spent."""
    groups = intervals.groupby([*keys, column], dropna=False, observed=True)
    sums = groups["duration_ns"].sum().reset_index()
    most = sums.sort_values("duration_ns", ascending=False).drop_duplicates(keys)
    # A merge, unlike an index, finds a name that is not known.
    return found[keys].merge(most, "left", keys)[column]


def _costliest(intervals: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    found = intervals.groupby(keys, dropna=False, observed=True).agg(
        intervals=("place", "size"),
        duration_ns=("duration_ns", "sum"),
        longest_ns=("duration_ns", "max"),
        hosts=("host", "nunique"),
        traces=("place", "nunique"),
    )
    return found.reset_index().sort_values("duration_ns", ascending=False, ignore_index=True)
