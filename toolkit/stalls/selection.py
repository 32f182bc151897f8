# SPDX-License-Identifier: GPL-2.0-only
"""A part of an analysis: some devices, some queues, a range of time, stalls of some length."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

import numpy as np
import pandas as pd

from toolkit import drivers
from toolkit.errors import UserError
from toolkit.event import NOT_KNOWN
from toolkit.stalls import rules
from toolkit.stalls.analysis import (
    Analysis,
    Shown,
    named,
    named_table,
    queue_totals,
    summarize_queues,
)
from toolkit.stalls.columns import Draft, take
from toolkit.stalls.scan import SUMS, Scan
from toolkit.stalls.silences import MEANS
from toolkit.stalls.tables import tables
from toolkit.stalls.ticks import ticks
from toolkit.trace.clock import from_utc, to_utc
from toolkit.trace.reader import Columns, TraceReader

Moment: TypeAlias = float | datetime
"""Seconds since the trace began, or a wall-clock time with its zone."""

_KEYS = ["device", "queue"]


@dataclass(frozen=True)
class Selection:
    """A choice of what to show of a trace. An attribute that is empty or None leaves nothing out.

    Attributes: `devices`, names; `queues`, numbers; `since` and `until`, the range of time; `shortest`, the
    least length of stalls [s].
    """

    devices: Sequence[str] = ()
    queues: Sequence[int] = ()
    since: Moment | None = None
    until: Moment | None = None
    shortest: float = 0.0


EVERYTHING = Selection()


# The same types of columns as in an analysis (analysis.analyze).
@pd.option_context("mode.string_storage", "python")
def select(analysis: Analysis, selection: Selection) -> Analysis:
    """Leave out of an analysis everything that is not in a selection.

    A stall that overlaps the range of time is whole in the result; so are its states. The counts of queues
    are of the range of time; the gaps between polls are NA if that is not the whole trace.

    :return: the analysis with other `stalls`, `silences`, `intervals`, `queues` and `tables`, and with
        `shown`; its `scan` stays that of the whole trace. For Selection(), the analysis itself.
    :raises UserError: if the trace has no such device or queue, or the range of time lies outside the trace.
    """
    if selection == EVERYTHING:
        return analysis
    start, end = _range(analysis, selection)
    names = _chosen(analysis, selection)
    shown = Shown(
        devices=list(selection.devices),
        queues=list(selection.queues),
        start=start,
        end=end,
        shortest_ns=round(selection.shortest * 1e9),
    )
    keys = pd.MultiIndex.from_frame(names[_KEYS])
    stalls = analysis.stalls
    kept = _overlapping(stalls, keys, start, end) & (stalls["duration_ns"] >= shown.shortest_ns)
    of_stall = _stall_of(analysis.intervals, stalls)
    silent = analysis.silences[_overlapping(analysis.silences, keys, start, end)]
    whole = (start, end) == (analysis.scan.began, analysis.scan.ended)
    scan = analysis.scan if whole else _part(analysis, start, end)
    totals = _totals(stalls[kept], silent, analysis.names)
    queues = summarize_queues(analysis.meta, scan, totals, analysis.names)
    return replace(
        analysis,
        shown=replace(shown, left_out=int((~kept).sum())),
        stalls=stalls[kept],
        silences=silent,
        ticks=_ticks(scan, silent, analysis.names),
        memory=analysis.memory[analysis.memory["at_ns"].between(start, end)],
        no_ticks=analysis.no_ticks[_overlapping(analysis.no_ticks, keys, start, end)],
        intervals=analysis.intervals[kept.reindex(of_stall).to_numpy()],
        queues=queues[queues.index.isin(names.index)],
        tables=_tables(analysis, scan, names, start, end),
    )


def _overlapping(rows: pd.DataFrame, keys: pd.MultiIndex, start: int, end: int) -> pd.Series:
    """Tell which stalls or silences are of some queues, and overlap a range of time [ns]."""
    return _in(rows, keys) & (rows["start_ns"] < end) & (rows["end_ns"] >= start)


def _ticks(scan: Scan, silences: pd.DataFrame, names: pd.DataFrame) -> pd.DataFrame:
    """Return the table of ticks in some silences."""
    keys, states = [*_KEYS, "driver"], list(MEANS)
    number = {key: place for place, key in enumerate(names[keys].itertuples(index=False, name=None))}
    whose = silences[keys].itertuples(index=False, name=None)
    of_silences: Draft = {
        "queue": np.array([number[key] for key in whose], np.intp),
        "state": np.array([states.index(state) for state in silences["state"]], np.intp),
        **{name: silences[name].to_numpy(np.int64) for name in ("start_ns", "end_ns")},
    }
    return named(ticks(scan, of_silences, states), names)


def _totals(stalls: pd.DataFrame, silences: pd.DataFrame, names: pd.DataFrame) -> Columns:
    """Return the totals of each of some queues (queue_totals); those of one name are one."""
    every = pd.MultiIndex.from_frame(names[_KEYS])
    known = every.unique()
    of_stalls, of_silences = (
        {str(name): frame[name].to_numpy() for name in frame if name not in _KEYS}
        | {"queue": known.get_indexer(pd.MultiIndex.from_frame(frame[_KEYS]))}
        for frame in (stalls, silences)
    )
    return take(queue_totals(of_stalls, of_silences, len(known)), known.get_indexer(every))


def _tables(
    analysis: Analysis, part: Scan, names: pd.DataFrame, start: int, end: int
) -> dict[str, pd.DataFrame]:
    """Return the drivers' own tables of some queues: pairs that overlap the time, and what ended in it."""
    known = [drivers.load(traced["name"]) for traced in analysis.meta["drivers"]]
    none = dict.fromkeys(("queue", "start_ns", "end_ns"), np.empty(0, np.int64))
    found = {}
    for name, rows in tables(part, known, none).items():
        if "begin_ns" in rows:
            pairs = analysis.tables[name]
            ended = pairs["end_ns"].fillna(analysis.scan.ended)
            found[name] = pairs[
                pairs["device"].isin(names["device"]) & (pairs["begin_ns"] < end) & (ended >= start)
            ]
        else:
            mine = take(rows, np.isin(rows["queue"], names.index))
            found[name] = named_table(mine, analysis.names)
    return found


def _range(analysis: Analysis, selection: Selection) -> tuple[int, int]:
    """Return begin and end [ns] of the range of time to show, both within the trace."""
    meta, scan = analysis.meta, analysis.scan
    start, end = (
        none
        if moment is None
        else from_utc(meta, moment)
        if isinstance(moment, datetime)
        else scan.began + round(moment * 1e9)
        for moment, none in ((selection.since, scan.began), (selection.until, scan.ended))
    )
    if not max(start, scan.began) < min(end, scan.ended) and (scan.began, scan.ended) != (start, end):
        began, ended = to_utc(meta, np.array([scan.began, scan.ended])).floor("ms").tz_localize(None)
        raise UserError(
            f"{analysis.path} has nothing from {(start - scan.began) / 1e9:.3f} s to "
            f"{(end - scan.began) / 1e9:.3f} s: it is {(scan.ended - scan.began) / 1e9:.3f} s long, from "
            f"{began.isoformat(timespec='milliseconds')} to {ended.isoformat(timespec='milliseconds')} UTC."
        )
    return max(start, scan.began), min(end, scan.ended)


def _chosen(analysis: Analysis, selection: Selection) -> pd.DataFrame:
    """Return the rows of analysis.names that the selection shows."""
    names = analysis.names
    known = [device["name"] for device in [*analysis.meta.get("devices", []), *analysis.scan.devices]]
    known = list(dict.fromkeys([*known, *names["device"]]))
    for name in selection.devices:
        if name not in known:
            raise UserError(
                f"{analysis.path} has no device {name!r}; it has: {', '.join(known) or 'no device'}."
            )
    if selection.devices:
        names = names[names["device"].isin(selection.devices)]
    known_queues = sorted(analysis.queues.loc[analysis.queues.index.isin(names.index), "queue"].unique())
    for number in selection.queues:
        if number not in known_queues:
            raise UserError(
                f"{analysis.path} has no queue {number}"
                f"{' on ' + ', '.join(selection.devices) if selection.devices else ''}; "
                f"it has: {', '.join(map(str, known_queues)) or 'no queue'}."
            )
    return names[names["queue"].isin(selection.queues)] if selection.queues else names


def _in(frame: pd.DataFrame, keys: pd.MultiIndex) -> pd.Series:
    """Tell the rows of these devices and queues."""
    return pd.Series(pd.MultiIndex.from_frame(frame[_KEYS]).isin(keys), frame.index)


def _stall_of(intervals: pd.DataFrame, stalls: pd.DataFrame) -> pd.Series:
    """Return, for each state, the index in `stalls` of the stall that it is in."""
    begun = stalls[[*_KEYS, "start_ns"]].assign(stall=stalls.index)
    joined = pd.merge_asof(
        intervals[[*_KEYS, "start"]], begun, left_on="start", right_on="start_ns", by=_KEYS
    )
    return joined["stall"]


def _part(analysis: Analysis, start: int, end: int) -> Scan:
    """Return the scan of a range of time: sums, posted buffers, rare events. Nothing else of it is known.

    A window counts if it begins in the range. Posted buffers are those of the steps that overlap the range.
    There are no gaps between polls.
    """
    scan, keys = analysis.scan, ["driver", "ifindex", "queue"]
    parts = [pd.DataFrame(columns=[*keys, *SUMS], dtype=np.int64)]
    for columns, _ in TraceReader(analysis.path):
        moment = rules.moments(columns)
        inside = (moment >= start) & (moment < end)
        events = {name: columns[name][inside].astype(np.int64) for name in (*keys, *SUMS)}
        parts.append(pd.DataFrame(events).groupby(keys, as_index=False).sum())
    sums = pd.concat(parts).groupby(keys).sum()
    queues = pd.MultiIndex.from_tuples(scan.queues, names=keys)
    steps = np.arange(scan.posted.shape[1]) << scan.shift
    overlap = (steps + (1 << scan.shift) > start - scan.began) & (steps < end - scan.began)
    return replace(
        scan,
        sums=sums.reindex(queues, fill_value=0).to_numpy(np.int64),
        posted=np.where(overlap, scan.posted, np.uint16(NOT_KNOWN)),
        rare=take(scan.rare, (scan.rare["ts"] >= start) & (scan.rare["ts"] < end)),
        gaps=np.zeros_like(scan.gaps),
        longest_gap=np.zeros_like(scan.longest_gap),
    )
