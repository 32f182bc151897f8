# SPDX-License-Identifier: GPL-2.0-only
"""A whole trace, analyzed: its stalls, its queues, and how far both can be trusted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from toolkit import drivers
from toolkit.driver import Driver
from toolkit.event import ALL_QUEUES, KIND, NOBODY, NOT_KNOWN
from toolkit.stalls import columns, ticks
from toolkit.stalls.classes import BRIEF, RECONFIGURATION, STALL
from toolkit.stalls.columns import Draft, integers, take, words
from toolkit.stalls.marks import queue_table, spread
from toolkit.stalls.scan import SUMS, Scan, gap_edges, scan
from toolkit.stalls.shortage import looks, shortage
from toolkit.stalls.silences import MEANS, silences, tells_threads
from toolkit.stalls.stalls import stalls
from toolkit.stalls.states import intervals, state_names
from toolkit.stalls.tables import tables
from toolkit.stalls.thresholds import DEFAULT, Thresholds, member
from toolkit.trace import ledger
from toolkit.trace.clock import to_utc
from toolkit.trace.reader import Columns, TraceReader

LISTED = 1000
"""As many rows of each table are in a summary, which is read as a whole: a megabyte at most."""


@dataclass(frozen=True)
class Shown:
    """The part of a trace that an analysis shows (selection.select).

    Attributes: names of `devices` and numbers of `queues`, empty for all; `start` and `end` [ns];
    `shortest_ns`, of the stalls; `left_out`, how many stalls of the trace are not in it.
    """

    devices: Sequence[str]
    queues: Sequence[int]
    start: int
    end: int
    shortest_ns: int
    left_out: int = 0


@dataclass(frozen=True)
class Analysis:
    """What a trace shows.

    Attributes: `path`; `meta`, the trace's JSON object; `damage`, None or the sentence why it is not
    whole; `scan`; `names`, device, queue, name, driver and size of each of scan.queues; `stalls`,
    `silences`, `ticks`, `no_ticks`, `memory`, `queues`, `intervals`, frames with the columns of
    docs/stalls.md; `tables`, by name, those that the drivers declare; `thresholds` that tell silences and
    classes; `shown`, None for all.
    """

    path: Path
    meta: Mapping[str, Any]
    damage: str | None
    scan: Scan
    intervals: pd.DataFrame
    stalls: pd.DataFrame
    silences: pd.DataFrame
    ticks: pd.DataFrame
    no_ticks: pd.DataFrame
    memory: pd.DataFrame
    queues: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    names: pd.DataFrame
    thresholds: Thresholds
    shown: Shown | None = None

    @property
    def span(self) -> tuple[int, int]:
        """Begin and end [ns] of what is shown."""
        return (self.shown.start, self.shown.end) if self.shown else (self.scan.began, self.scan.ended)


# Names of columns are strings: with those of Arrow, a table of a few rows takes up to twice as long.
@pd.option_context("mode.string_storage", "python")
def analyze(path: Path | str, thresholds: Thresholds = DEFAULT) -> Analysis:
    """Analyze a trace.

    :param path: a trace file.
    :param thresholds: from how long silences and stalls count.
    :return: what it shows; for a damaged one, of the part before the damage.
    :raises UserError: if it is not a trace, or of a driver that this toolkit does not know.
    """
    reader = TraceReader(path)
    known = [drivers.load(each["name"]) for each in reader.meta["drivers"]]
    found = scan(reader, known)
    states: Draft = intervals(reader, known, found)
    stalled = stalls(reader, known, found, states, thresholds)
    silent: Draft = silences(found, known, stalled, thresholds)
    names = _names(reader.meta, known, found)
    looked = ticks.ticks(found, silent, list(MEANS))
    totals = queue_totals(stalled, silent, len(names))
    clock: Draft = {"start_utc": to_utc(reader.meta, stalled["start_ns"])}
    stalled = {name: stalled[name] for name in ("queue", "state")} | clock | stalled
    stalled["class"] = words(stalled["class"])
    states["state"] = columns.names(np.array(state_names(known), object)[states["state"]])
    silent["state"] = columns.names(np.array(list(MEANS), object)[silent["state"]])
    silent |= _threads(silent["tid"], found.threads, tells_threads(reader.meta))
    return Analysis(
        path=Path(path),
        meta=reader.meta,
        damage=reader.damage,
        scan=found,
        intervals=named(states, names),
        stalls=_without(named(stalled, names), reader.meta),
        silences=named(silent, names),
        ticks=named(looked, names),
        no_ticks=named(ticks.without(found), names),
        memory=looks(found.memory),
        queues=summarize_queues(reader.meta, found, totals, names),
        tables={name: named_table(rows, names) for name, rows in tables(found, known, stalled).items()},
        names=names,
        thresholds=thresholds,
    )


def summary(analysis: Analysis) -> dict[str, Any]:
    """Return the JSON object of summary.json (docs/stalls.md), without what toolkit.report adds to it."""
    meta, scan = analysis.meta, analysis.scan
    traced = [
        {
            "name": each["name"],
            "variant": each.get("variant"),
            "version": each.get("version"),
            "srcversion": each.get("srcversion"),
            "regime": each.get("regime"),
            "hooks_missing": [
                {"program": hook["program"], "missing": hook.get("missing", "")}
                for hook in each.get("hooks", [])
                if not hook.get("attached")
            ],
        }
        for each in meta["drivers"]
    ]
    losses = pd.DataFrame(scan.losses, columns=["start_ns", "duration_ns"])
    losses["duration_ns"] -= losses["start_ns"]
    largest_by = {
        "loss_windows": (losses, "duration_ns"),
        "stalls": (analysis.stalls, "duration_ns"),
        "silences": (analysis.silences, "duration_ns"),
        "ticks": (analysis.ticks, "count"),
        "no_ticks": (analysis.no_ticks, "duration_ns"),
        "queues": (analysis.queues, "stalled_ns"),
    }
    return {
        "format": 2,
        "trace": analysis.path.name,
        "toolkit": meta.get("toolkit"),
        "kernel": meta.get("kernel"),
        "arch": meta.get("arch"),
        "driver": of_drivers(meta, "name"),
        "variant": of_drivers(meta, "variant"),
        "regime": of_drivers(meta, "regime"),
        "drivers": traced,
        "hooks_missing": [hook for each in traced for hook in each["hooks_missing"]],
        "complete": analysis.damage is None,
        "damage": analysis.damage,
        "reason": scan.reason,
        "missed": scan.missed,
        "counters": scan.counters,
        "shown": _shown(analysis.shown),
        **member(analysis.thresholds),
        "began_utc": to_utc(meta, np.array([scan.began]))[0].isoformat(),
        "began_ns": scan.began,
        "duration_ns": scan.ended - scan.began,
        "events": int(scan.chunks[:, 2].sum()),
        "ledger": ledger.totals(scan.ledger),
        "lower_bounds": bool(scan.losses),
        "memory": shortage(analysis.memory, analysis.stalls),
        **{name: records(largest(table, by)) for name, (table, by) in largest_by.items()},
        "tables": {name: records(largest(rows, _by(rows))) for name, rows in analysis.tables.items()},
        "left_out": {
            name: len(rows) - LISTED
            for name, rows in [
                *((name, rows) for name, (rows, _) in largest_by.items()),
                *analysis.tables.items(),
            ]
            if len(rows) > LISTED
        },
    }


def of_drivers(meta: Mapping[str, Any], member: str) -> str | None:
    """Return what a trace says of its drivers, such as their `variant`; None if it says nothing."""
    return ", ".join(filter(None, (each.get(member) for each in meta["drivers"]))) or None


def _shown(shown: Shown | None) -> dict[str, Any] | None:
    """Return the `shown` object of summary.json."""
    if shown is None:
        return None
    return {
        "devices": list(shown.devices) or None,
        "queues": list(shown.queues) or None,
        "start_ns": shown.start,
        "end_ns": shown.end,
        "shortest_ns": shown.shortest_ns,
        "stalls_left_out": shown.left_out,
    }


def _by(rows: pd.DataFrame) -> str:
    """Return the column by which rows of a driver's own table are the largest."""
    return "after_ns" if "after_ns" in rows else "count"


def largest(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return the LISTED rows that have most of a column, in the order of the frame."""
    if len(frame) <= LISTED:
        return frame
    most = np.argsort(-frame[by].to_numpy(np.float64, na_value=0), kind="stable")[:LISTED]
    return frame.iloc[np.sort(most)]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as JSON objects; what is not known is null, times are ISO 8601."""
    names = list(map(str, frame))
    return [
        dict(zip(names, row, strict=True))
        for row in zip(*(_values(frame[name]) for name in frame), strict=True)
    ]


def _values(column: pd.Series) -> list[Any]:
    """Return the values of a column as JSON has them."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return [time.isoformat() for time in column]
    values = column.tolist()
    for row in column.array.isna().nonzero()[0].tolist():
        values[row] = None
    return values


def _names(meta: Mapping[str, Any], known: Sequence[Driver], scan: Scan) -> pd.DataFrame:
    """Return device, queue, name, driver and size of each of scan.queues."""
    devices = {device["ifindex"]: device for device in [*meta.get("devices", []), *scan.devices]}
    queues = {
        (ifindex, queue["queue"]): queue
        for ifindex, device in devices.items()
        for queue in reversed(device.get("queues", []))
    }
    named, sizes = [], []
    for number, ifindex, queue in scan.queues:
        said = queues.get((ifindex, queue), {})
        device = devices.get(ifindex, {}).get("name", f"if{ifindex}")
        named.append((device, said.get("name", known[number].queue_name(queue)), known[number].name))
        sizes.append(said.get("size"))
    device, name, driver = map(columns.names, zip(*named, strict=True)) if named else [columns.names([])] * 3
    numbers = np.array([queue.queue for queue in scan.queues], np.int64)
    size = pd.array(sizes, dtype="Int64")
    return pd.DataFrame({"device": device, "queue": numbers, "name": name, "driver": driver, "size": size})


def named(rows: Draft, names: pd.DataFrame) -> pd.DataFrame:
    """Return a table with device, queue, name and driver in the place of the queue's index."""
    queue = rows["queue"]
    whose = {str(name): names[name].array[queue] for name in names if name != "size"}
    return pd.DataFrame(whose | {name: column for name, column in rows.items() if name != "queue"})


def named_table(rows: Draft, names: pd.DataFrame) -> pd.DataFrame:
    """Return a driver's own table as `named` does; without queue and name, if it is of whole devices."""
    found = named(rows, names)
    whole = len(found) > 0 and bool((found["queue"] == ALL_QUEUES).all())
    return found.drop(columns=["queue", "name"] if whole else [])


def _without(frame: pd.DataFrame, meta: Mapping[str, Any]) -> pd.DataFrame:
    """Return the frame, with null for what nobody can tell of a driver, or only a missing hook; and without
    the time in a state that only a missing hook tells, or one that is younger than the trace."""
    core, _ = drivers.core()
    untold: set[str] = set()
    for traced in meta["drivers"]:
        driver = drivers.load(traced["name"])
        missing = {hook["program"] for hook in traced.get("hooks", []) if not hook.get("attached")}
        hooks = (hook for hook in (*core, *driver.hooks) if hook.program in missing)
        unknown = {*driver.unknown, *(name for hook in hooks for name in hook.tells)}
        states = {f"{state.name.replace('-', '_')}_ns" for state in driver.states}
        for name in (unknown - states) & set(frame):
            frame[name] = frame[name].astype("Int64").mask(frame["driver"] == driver.name)
        attached = {hook["program"] for hook in traced.get("hooks", []) if hook.get("attached")}
        younger = (hook for hook in driver.hooks if hook.program not in attached)
        untold |= states & {name for hook in younger for name in hook.tells}
    return frame.drop(columns=[name for name in frame if name in untold])


def _threads(tids: NDArray[np.int64], names: Mapping[int, str], told: bool) -> Draft:
    """Return tid and thread, its name, of each silence; null where no thread had the CPU for long.

    :param told: whether the trace tells of threads at all.
    """
    had = (tids != NOBODY) & told
    called = [
        names.get(tid) if known else None for tid, known in zip(tids.tolist(), had.tolist(), strict=True)
    ]
    return {"tid": integers(tids, had), "thread": words(called)}


def queue_totals(stalls: Draft, silences: Draft, count: int) -> Columns:
    """Return how many stalls of each class each queue had, and how long its stalls and silences were [ns].

    :param stalls: columns queue (a number below `count`), class, duration_ns, open, uncertain.
    :param silences: columns queue, duration_ns.
    :return: the columns of docs/stalls.md from stalls to uncertain, by queue.
    """
    kind, queue, length = (stalls[name] for name in ("class", "queue", "duration_ns"))
    stalled = kind != RECONFIGURATION

    def added(queue: NDArray[np.intp], numbers: NDArray[Any]) -> NDArray[np.int64]:
        total = np.zeros(count, np.int64)
        np.add.at(total, queue, numbers)
        return total

    longest = np.zeros(count, np.int64)
    np.maximum.at(longest, queue, length * stalled)
    return {
        "stalls": added(queue, kind == STALL),
        "brief": added(queue, kind == BRIEF),
        "reconfigurations": added(queue, ~stalled),
        "stalled_ns": added(queue, length * stalled),
        "longest_ns": longest,
        "silent_ns": added(silences["queue"], silences["duration_ns"]),
        "open": added(queue, stalls["open"] & stalled),
        "uncertain": added(queue, stalls["uncertain"] & stalled),
    }


def summarize_queues(
    meta: Mapping[str, Any], scan: Scan, totals: Columns, names: pd.DataFrame
) -> pd.DataFrame:
    """Return the table of queues (docs/stalls.md) by their index in scan.queues, sorted by name.

    :param totals: of each queue (queue_totals).
    """
    polled = np.array([drivers.load(name).by_napi for name in names["driver"]], np.bool_)
    found: Draft = {str(name): names[name].array for name in names}
    found |= totals | {"silent_ns": integers(totals["silent_ns"], polled)}
    found |= zip(SUMS, scan.sums.T, strict=True)
    table, count = queue_table(scan.queues), len(names)
    kinds, queues, refills = (scan.rare[name] for name in ("kind", "queue", "refills"))
    for name, kind in (("alloc_failures", "alloc_fail"), ("workers", "worker_in")):
        _, queue = spread(queues[kinds == KIND[kind]], table)
        found[name] = np.bincount(queue, minlength=count)
    # Of a worker that is called again and again most runs are in windows, with a refill each.
    runs = (kinds == KIND["window"]) & scan.rare["process"]
    found["workers"] = found["workers"] + np.bincount(queues[runs], refills[runs], count).astype(np.int64)
    fewest = scan.posted.min(axis=1, initial=NOT_KNOWN)
    found["posted_min"] = integers(fewest, fewest != NOT_KNOWN)
    for name, percent in (("gap_p50_ns", 50), ("gap_p99_ns", 99), ("gap_max_ns", 100)):
        gap = np.minimum(_percentile(scan.gaps, percent), scan.longest_gap)
        found[name] = integers(gap, np.any(scan.gaps, axis=1))
    place = sorted(range(count), key=lambda row: (found["device"][row], found["queue"][row]))
    order = np.array([row for row in place if found["queue"][row] != ALL_QUEUES], np.intp)
    return _without(pd.DataFrame(take(found, order), index=order), meta)


def _percentile(gaps: NDArray[np.int64], percent: int) -> NDArray[np.int64]:
    """Return what `percent` [ns] of each queue's gaps do not exceed, up to an eighth of an octave more."""
    upper = np.minimum(gap_edges()[1:], 2.0**62).astype(np.int64)
    counts = np.cumsum(gaps, axis=1)
    place = (counts < counts[:, -1:] * (percent / 100)).sum(axis=1)
    return np.asarray(upper[np.minimum(place, len(upper) - 1)])
