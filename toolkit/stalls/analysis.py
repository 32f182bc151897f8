# SPDX-License-Identifier: GPL-2.0-only
"""A whole trace, analysed: its stalls, its queues, and how far both can be trusted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from toolkit import drivers
from toolkit.drivers import Driver
from toolkit.event import ALL_QUEUES, KIND, NOT_KNOWN
from toolkit.stalls.classes import BRIEF, RECONFIGURATION, STALL, classify
from toolkit.stalls.marks import queue_table, spread
from toolkit.stalls.scan import SUMS, Scan, gap_edges, scan
from toolkit.stalls.silences import silences
from toolkit.stalls.stalls import stalls
from toolkit.stalls.states import intervals
from toolkit.stalls.tables import tables
from toolkit.trace.clock import to_utc
from toolkit.trace.ledger import totals
from toolkit.trace.reader import TraceReader

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
    `silences`, `queues`, `intervals`, frames with the columns of docs/stalls.md; `tables`, by name, those
    that the drivers declare; `shown`, None for all.
    """

    path: Path
    meta: Mapping[str, Any]
    damage: str | None
    scan: Scan
    intervals: pd.DataFrame
    stalls: pd.DataFrame
    silences: pd.DataFrame
    queues: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    names: pd.DataFrame
    shown: Shown | None = None

    @property
    def span(self) -> tuple[int, int]:
        """Begin and end [ns] of what is shown."""
        return (self.shown.start, self.shown.end) if self.shown else (self.scan.began, self.scan.ended)


# Names of columns are strings: with those of Arrow, a table of a few rows takes up to twice as long.
@pd.option_context("mode.string_storage", "python")
def analyze(path: Path | str) -> Analysis:
    """Analyses a trace.

    :param path: a trace file.
    :return: what it shows; for a damaged one, of the part before the damage.
    :raises UserError: if it is not a trace, or of a driver that this toolkit does not know.
    """
    reader = TraceReader(path)
    known = [drivers.load(each["name"]) for each in reader.meta["drivers"]]
    found = scan(reader, known)
    states = intervals(reader, known, found)
    table = classify(stalls(reader, known, found, states), found)
    names = _names(reader.meta, known, found)
    named_stalls = named(table, names)
    begins = to_utc(reader.meta, table["start_ns"].to_numpy())
    named_stalls.insert(list(named_stalls).index("start_ns"), "start_utc", begins)
    silent = _silences(found, known, table, names)
    queues = summarize_queues(reader.meta, found, stall_totals(table, ["queue"]), names)
    return Analysis(
        path=Path(path),
        meta=reader.meta,
        damage=reader.damage,
        scan=found,
        intervals=named(states, names),
        stalls=_without(named_stalls, reader.meta),
        silences=silent,
        queues=with_silences(queues, silent),
        tables={name: named_table(rows, names) for name, rows in tables(found, known, table).items()},
        names=names,
    )


def _silences(scan: Scan, known: Sequence[Driver], stalls: pd.DataFrame, names: pd.DataFrame) -> pd.DataFrame:
    """Return the silences of the queues outside of their stalls, by name, with their duration."""
    found = named(silences(scan, known, stalls), names)
    return found.assign(duration_ns=found["end_ns"] - found["start_ns"])


def with_silences(queues: pd.DataFrame, silent: pd.DataFrame) -> pd.DataFrame:
    """Return the table of queues with silent_ns, the sum of their silences; null without NAPI."""
    sums = silent.groupby(["device", "queue"])["duration_ns"].sum()
    mine = sums.reindex(pd.MultiIndex.from_frame(queues[["device", "queue"]]), fill_value=0)
    known = np.array([bool(drivers.load(name).poll) for name in queues["driver"]], np.bool_)
    found = queues.copy()
    place = list(found).index("longest_ns") + 1
    found.insert(place, "silent_ns", pd.Series(mine.to_numpy(), queues.index, dtype="Int64").where(known))
    return found


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
        "queues": (analysis.queues, "stalled_ns"),
    }
    return {
        "format": 2,
        "trace": analysis.path.name,
        "toolkit": meta.get("toolkit"),
        "kernel": meta.get("kernel"),
        "arch": meta.get("arch"),
        "driver": ", ".join(each["name"] for each in traced),
        "variant": ", ".join(filter(None, (each["variant"] for each in traced))) or None,
        "regime": ", ".join(filter(None, (each["regime"] for each in traced))) or None,
        "drivers": traced,
        "hooks_missing": [hook for each in traced for hook in each["hooks_missing"]],
        "complete": analysis.damage is None,
        "damage": analysis.damage,
        "reason": scan.reason,
        "missed": scan.missed,
        "counters": scan.counters,
        "shown": _shown(analysis.shown),
        "began_utc": to_utc(meta, np.array([scan.began]))[0].isoformat(),
        "began_ns": scan.began,
        "duration_ns": scan.ended - scan.began,
        "events": int(scan.chunks[:, 2].sum()),
        "ledger": totals(scan.ledger),
        "lower_bounds": bool(scan.losses),
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
    times = frame.select_dtypes("datetimetz")
    frame = frame.assign(**{str(name): [time.isoformat() for time in times[name]] for name in times})
    return [
        {
            str(name): None if pd.isna(value) else value.item() if isinstance(value, np.generic) else value
            for name, value in row.items()
        }
        for row in frame.to_dict("records")
    ]


def _names(meta: Mapping[str, Any], known: Sequence[Driver], scan: Scan) -> pd.DataFrame:
    """Return device, queue, name, driver and size of each of scan.queues."""
    devices = {device["ifindex"]: device for device in [*meta.get("devices", []), *scan.devices]}
    queues = {
        (ifindex, queue["queue"]): queue
        for ifindex, device in devices.items()
        for queue in reversed(device.get("queues", []))
    }
    rows = []
    for number, ifindex, queue in scan.queues:
        driver = known[number]
        said = queues.get((ifindex, queue), {})
        name = said.get("name", driver.queue_name(queue))
        device = devices.get(ifindex, {}).get("name", f"if{ifindex}")
        rows.append((device, queue, name, driver.name, said.get("size")))
    columns = ["device", "queue", "name", "driver", "size"]
    return pd.DataFrame(rows, columns=columns).astype({"size": "Int64"})


def named(frame: pd.DataFrame, names: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with device, queue, name and driver in the place of the queue's index."""
    whose = names.drop(columns="size").take(frame["queue"].to_numpy(np.intp)).set_axis(frame.index)
    return whose.join(frame.drop(columns="queue"))


def named_table(rows: pd.DataFrame, names: pd.DataFrame) -> pd.DataFrame:
    """Return a driver's own table as `named` does; without queue and name, if it is of whole devices."""
    whole = len(rows) > 0 and (names["queue"].reindex(rows["queue"]) == ALL_QUEUES).all()
    return named(rows, names).drop(columns=["queue", "name"] if whole else [])


def _without(frame: pd.DataFrame, meta: Mapping[str, Any]) -> pd.DataFrame:
    """Return the frame, with null for what nobody can tell of a driver, or only a missing hook."""
    core, _ = drivers.core()
    for traced in meta["drivers"]:
        driver = drivers.load(traced["name"])
        missing = {hook["program"] for hook in traced.get("hooks", []) if not hook.get("attached")}
        hooks = (hook for hook in (*core, *driver.hooks) if hook.program in missing)
        unknown = {*driver.unknown, *(name for hook in hooks for name in hook.tells)}
        for name in unknown & set(frame):
            frame[name] = frame[name].astype("Int64").mask(frame["driver"] == driver.name)
    return frame


def stall_totals(stalls: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return how many stalls of each class each queue had and how long they were [ns], as in its summary."""
    classes = {STALL: "stalls", BRIEF: "brief", RECONFIGURATION: "reconfigurations"}
    kind, length = stalls["class"].to_numpy(), stalls["duration_ns"].to_numpy()
    stalled = kind != RECONFIGURATION
    numbers = {name: kind == word for word, name in classes.items()} | {
        "stalled_ns": length * stalled,
        "longest_ns": length * stalled,
        "open": stalls["open"].to_numpy() & stalled,
        "uncertain": stalls["uncertain"].to_numpy() & stalled,
    }
    grouped = pd.DataFrame(numbers, stalls.index).astype(np.int64).groupby([stalls[name] for name in by])
    return grouped.sum().assign(longest_ns=grouped["longest_ns"].max())


def summarize_queues(
    meta: Mapping[str, Any], scan: Scan, totals: pd.DataFrame, names: pd.DataFrame
) -> pd.DataFrame:
    """Return the summary of each queue (docs/stalls.md) by its index in scan.queues, sorted by name.

    :param totals: by that index, of queues that stalled (stall_totals).
    """
    frame = names.join(totals.reindex(names.index, fill_value=0).astype(np.int64))
    counted: dict[str, Any] = dict(zip(SUMS, scan.sums.T, strict=True))
    table = queue_table(scan.queues)
    kinds, queues, refills = (scan.rare[name].to_numpy() for name in ("kind", "queue", "refills"))
    for name, kind in (("alloc_failures", "alloc_fail"), ("workers", "worker_in")):
        counts = np.bincount(queues[kinds == KIND[kind]], minlength=len(frame))
        seen = np.flatnonzero(counts)
        row, queue = spread(seen, table)
        counted[name] = np.bincount(queue, counts[seen][row], len(frame)).astype(np.int64)
    # Of a worker that is called again and again most runs are in windows, with a refill each.
    runs = (kinds == KIND["window"]) & scan.rare["process"].to_numpy(np.bool_)
    counted["workers"] += np.bincount(queues[runs], refills[runs], len(frame)).astype(np.int64)
    fewest = scan.posted.min(axis=1, initial=NOT_KNOWN)
    counted["posted_min"] = _unless(fewest == NOT_KNOWN, fewest)
    for name, percent in (("gap_p50_ns", 50), ("gap_p99_ns", 99), ("gap_max_ns", 100)):
        gap = np.minimum(_percentile(scan.gaps, percent), scan.longest_gap)
        counted[name] = _unless(scan.gaps.sum(axis=1) == 0, gap)
    frame = frame.assign(**counted)
    frame = frame[frame["queue"] != ALL_QUEUES]
    return _without(frame.sort_values(["device", "queue"], kind="stable"), meta)


def _unless(unknown: NDArray[np.bool_], numbers: NDArray[Any]) -> pd.arrays.IntegerArray:
    """Return the numbers, with NA for those that are not known."""
    return pd.arrays.IntegerArray(numbers.astype(np.int64), unknown)


def _percentile(gaps: NDArray[np.int64], percent: int) -> NDArray[np.int64]:
    """Return what `percent` [ns] of each queue's gaps do not exceed, up to an eighth of an octave more."""
    upper = np.minimum(gap_edges()[1:], 2.0**62).astype(np.int64)
    counts = np.cumsum(gaps, axis=1)
    place = (counts < counts[:, -1:] * (percent / 100)).sum(axis=1)
    return np.asarray(upper[np.minimum(place, len(upper) - 1)])
