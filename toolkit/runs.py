# SPDX-License-Identifier: GPL-2.0-only
"""Turn traces, with their witnesses and phases, into one row of numbers for each run."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd

from toolkit.errors import UserError
from toolkit.stalls.analysis import Analysis, of_drivers
from toolkit.stalls.classes import STALL
from toolkit.stalls.thresholds import DEFAULT, Thresholds
from toolkit.trace.ledger import totals
from toolkit.traces import Trace, read

COLUMNS = {
    "trace": "string",
    "driver": "string",
    "kernel": "string",
    "variant": "string",
    "srcversion": "string",
    "scenario": "string",
    "parameters": "string",
    "rate": "Float64",
    "size": "Float64",
    "duration_ns": "int64",
    "packets": "int64",
    "refills": "int64",
    "dropped": "int64",
    "damage": "string",
    "uncertain": "int64",
    "witness": "string",
    "witness_agrees": "boolean",
    "stalls": "int64",
    "brief": "int64",
    "stalled_ns": "int64",
    "longest_ns": "int64",
    "open": "int64",
    "failed": "int64",
    "spin_ns": "int64",
    "silent_ns": "int64",
    "recovery_ns": "Int64",
    "refused": "Float64",
}
"""The columns of a frame of runs, and their types (docs/comparison.md)."""


class TraceSet(Sequence[Trace]):
    """Several traces, in order; each is analyzed when it is first asked for, and kept.

    :param traces: as `toolkit.read` gives them.
    :param path: the path that the traces were read from, if there is one.
    :param say: is called with a sentence before each trace is analyzed.
    """

    def __init__(
        self, traces: Sequence[Trace], path: str = "", say: Callable[[str], object] = lambda _: None
    ) -> None:
        self.path = path
        self._traces = tuple(traces)
        self._say = say

    def __len__(self) -> int:
        return len(self._traces)

    @overload
    def __getitem__(self, index: int) -> Trace: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Trace]: ...
    def __getitem__(self, index: int | slice) -> Trace | Sequence[Trace]:
        return self._traces[index]

    @cached_property
    def runs(self) -> pd.DataFrame:
        """COLUMNS, one row for each trace; attrs has the `path` and, as a mapping, the `thresholds`."""
        rows = [_run(trace) for trace in self._one_by_one()]
        types: dict[str, Any] = COLUMNS
        runs = pd.DataFrame(
            {name: pd.array([row[name] for row in rows], kind) for name, kind in types.items()}
        )
        runs.attrs["path"] = self.path
        # No object: pandas writes attrs to Parquet as JSON.
        runs.attrs["thresholds"] = asdict(self._thresholds)
        return runs

    @property
    def _thresholds(self) -> Thresholds:
        """Return the thresholds of all traces.

        :raises UserError: if they differ.
        """
        first, *others = {trace.thresholds for trace in self} or {DEFAULT}
        if others:
            raise UserError("the traces are analyzed by different thresholds: give all of them the same.")
        return first

    @cached_property
    def stalls(self) -> pd.DataFrame:
        """The stalls of all traces (Trace.stalls), with the path of the `trace` in front."""
        return self._together([trace.stalls for trace in self._one_by_one()])

    @cached_property
    def queues(self) -> pd.DataFrame:
        """The queues of all traces (Trace.queues), with the path of the `trace` in front."""
        return self._together([trace.queues for trace in self._one_by_one()])

    def _one_by_one(self) -> Iterator[Trace]:
        for number, trace in enumerate(self, 1):
            self._say(f"reading {trace.path} ({number} of {len(self)})")
            yield trace

    def _together(self, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
        # An empty table may lack columns, of states that other drivers have.
        both = pd.concat([table for table in tables if len(table)] or tables, ignore_index=True)
        paths = [
            str(trace.path) for trace, table in zip(self, tables, strict=True) for _ in range(len(table))
        ]
        both.insert(0, "trace", pd.Series(paths, dtype="str"))
        return both


def read_set(
    *paths: Path | str,
    thresholds: Thresholds | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> TraceSet:
    """Open several traces.

    :param paths: each a trace, or a directory that is searched for traces (*.rxt), also below.
    :param thresholds: from how long silences and stalls of each trace count; by default thresholds.DEFAULT.
    :param say: is called with a sentence before each trace is analyzed.
    :return: the traces; those of each path are sorted.
    :raises UserError: if there is no trace, or a file that is no trace.
    """
    traces = [read(trace, thresholds=thresholds) for path in paths for trace in find_traces(Path(path))]
    return TraceSet(traces, ", ".join(map(str, paths)), say)


def read_runs(path: Path | str) -> pd.DataFrame:
    """Return TraceSet.runs of a trace, or of a directory of traces."""
    return read_set(path).runs


def find_traces(path: Path) -> list[Path]:
    """Return the traces in a directory and below, sorted; the path itself if it is no directory.

    :raises UserError: if there is no trace in the directory.
    """
    if not path.is_dir():
        return [path]
    found = sorted(each for each in path.rglob("*.rxt") if each.is_file())
    if not found:
        raise UserError(f"there is no trace (*.rxt) in {path}.")
    return found


def _run(trace: Trace) -> dict[str, Any]:
    """Return the row of one run, with the columns COLUMNS."""
    found: dict[str, Any] = dict.fromkeys(COLUMNS)
    if trace.phases is not None:
        found["scenario"] = trace.phases.attrs["scenario"] or None
        if (parameters := trace.phases.attrs["parameters"]) is not None:
            found["parameters"] = json.dumps(parameters, sort_keys=True)
        edges = trace.stalls[["start_ns", "end_ns"]]
        found["recovery_ns"] = recovery(edges[trace.stalls["class"] == STALL], trace.phases)
    if trace.witness and trace.agreement:
        found |= {"witness": trace.agreement["sentence"], "witness_agrees": trace.agreement["agrees"]}
        found["refused"] = _share(trace.witness.sent, trace.witness.refused)
        found |= {"rate": trace.witness.rate, "size": trace.witness.size}
    return found | {"trace": str(trace.path)} | _said(trace.analysis) | _counted(trace.analysis)


def _said(analysis: Analysis) -> dict[str, Any]:
    """Return the columns that the trace's own header gives, and those that say how far it can be trusted."""
    meta, scan = analysis.meta, analysis.scan
    return {
        "driver": of_drivers(meta, "name"),
        "kernel": meta.get("kernel"),
        "variant": of_drivers(meta, "variant"),
        "srcversion": of_drivers(meta, "srcversion"),
        "duration_ns": scan.ended - scan.began,
        "damage": analysis.damage,
        "dropped": totals(scan.ledger)["dropped"],
        "uncertain": int(analysis.stalls["uncertain"].sum()),
    }


def _counted(analysis: Analysis) -> dict[str, int]:
    """Return the metrics that need nothing but the trace."""
    stalls, queues = analysis.stalls, analysis.queues
    sums = ("stalls", "brief", "stalled_ns", "open", "packets", "refills", "failed")
    return {
        **{name: int(queues[name].sum()) for name in sums},
        "longest_ns": int(queues["longest_ns"].max()) if len(queues) else 0,
        "spin_ns": int(stalls["spin_ns"].sum()),
        "silent_ns": int(queues["silent_ns"].sum()),
    }


def recovery(stalls: pd.DataFrame, phases: pd.DataFrame) -> int | None:
    """Return for how long a driver stays deaf once there is memory again.

    :param stalls: columns start_ns, end_ns [ns].
    :param phases: accounts.read_phases.
    :return: [ns] from the end of a shortage to the end of the last stall that overlaps or follows it, and
        began before the next shortage; of several shortages the longest, 0 without such a stall; None if the
        scenario does not say when memory was short.
    """
    short = phases["shortage"].to_numpy()
    shortages = sorted(zip(phases["start"].to_numpy()[short], phases["end"].to_numpy()[short], strict=True))
    if not shortages:
        return None
    following = [*(start for start, _ in shortages[1:]), np.iinfo(np.int64).max]
    lengths = [0]
    begins, ends = stalls["start_ns"].to_numpy(), stalls["end_ns"].to_numpy()
    for (start, end), until in zip(shortages, following, strict=True):
        own = ends[(ends >= start) & (begins < until)]
        lengths.append(own.max() - end if len(own) else 0)
    return int(max(lengths))


def _share(sent: int | None, refused: int | None) -> float | None:
    """Return the share of the frames that the NIC refused; None if no frame was offered."""
    if sent is None or refused is None or not sent + refused:
        return None
    return refused / (sent + refused)
