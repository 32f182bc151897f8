# SPDX-License-Identifier: GPL-2.0-only
"""From traces, and what lies beside them, to one row of numbers for each run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from toolkit.errors import UserError
from toolkit.stalls.analysis import Analysis, analyze, summary
from toolkit.stalls.witness import compare, read_phases, read_witness

COLUMNS = {
    "trace": "string",
    "driver": "string",
    "kernel": "string",
    "variant": "string",
    "srcversion": "string",
    "scenario": "string",
    "duration_ns": "int64",
    "packets": "int64",
    "refills": "int64",
    "dropped": "int64",
    "damage": "string",
    "uncertain": "int64",
    "witness": "string",
    "witness_agrees": "boolean",
    "stalls": "int64",
    "stalled_ns": "int64",
    "longest_ns": "int64",
    "open": "int64",
    "failed": "int64",
    "spin_ns": "int64",
    "recovery_ns": "Int64",
    "refused": "Float64",
}
"""Of a frame of runs (docs/comparison.md)."""


def read_runs(path: Path | str, say: Callable[[str], object] = lambda _: None) -> pd.DataFrame:
    """Analyses the traces of one set of runs.

    A witness.json and a phases.json belong to a trace that is the only one in their directory.

    :param path: a trace, or a directory that is searched for them (*.rxt), also below.
    :param say: is told of each trace before it is read.
    :return: COLUMNS, one row for each run, sorted by trace; attrs has the `path`.
    :raises UserError: if there is no trace, or something that is not one.
    """
    traces = _traces(Path(path))
    rows = []
    for number, trace in enumerate(traces, 1):
        say(f"reading {trace} ({number} of {len(traces)})")
        rows.append(_run(trace))
    runs = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    runs.attrs["path"] = str(path)
    return runs


def _traces(path: Path) -> list[Path]:
    """:return: the traces there, sorted."""
    if not path.is_dir():
        return [path]
    found = sorted(each for each in path.rglob("*.rxt") if each.is_file())
    if not found:
        raise UserError(f"there is no trace (*.rxt) in {path}.")
    return found


def _run(trace: Path) -> dict[str, Any]:
    """:return: the row of one run, by COLUMNS."""
    analysis = analyze(trace)
    alone = len(list(trace.parent.glob("*.rxt"))) == 1
    beside = {name: trace.with_name(f"{name}.json") for name in ("witness", "phases")}
    there = {name: path for name, path in beside.items() if alone and path.is_file()}
    found: dict[str, Any] = {"scenario": None, "recovery_ns": None, "refused": None, "witness": None}
    if "phases" in there:
        phases = read_phases(there["phases"])
        found["scenario"] = phases.attrs["scenario"] or None
        found["recovery_ns"] = recovery(analysis.stalls, phases)
    if "witness" in there:
        witness = read_witness(there["witness"])
        _, agreement = compare(analysis, witness)
        found |= {"witness": agreement["sentence"], "witness_agrees": agreement["agrees"]}
        found["refused"] = _share(witness.sent, witness.refused)
    return {"trace": str(trace), **_said(analysis), **_counted(analysis), **found}


def _said(analysis: Analysis) -> dict[str, Any]:
    """:return: what the trace says of itself, and how far it can be trusted."""
    about = summary(analysis)
    sources = [each["srcversion"] for each in about["drivers"] if each["srcversion"]]
    return {
        **{name: about[name] for name in ("driver", "kernel", "variant", "duration_ns", "damage")},
        "srcversion": ", ".join(sources) or None,
        "dropped": about["ledger"]["dropped"],
        "uncertain": int(analysis.stalls["uncertain"].sum()),
    }


def _counted(analysis: Analysis) -> dict[str, int]:
    """:return: the metrics that a trace has by itself."""
    stalls, queues = analysis.stalls, analysis.queues
    return {
        "stalls": len(stalls),
        "stalled_ns": int(stalls["duration_ns"].sum()),
        "longest_ns": int(stalls["duration_ns"].max()) if len(stalls) else 0,
        "open": int(stalls["open"].sum()),
        "spin_ns": int(stalls["spin_ns"].sum()),
        **{name: int(queues[name].sum()) for name in ("packets", "refills", "failed")},
    }


def recovery(stalls: pd.DataFrame, phases: pd.DataFrame) -> int | None:
    """How long a driver stays deaf once there is memory again.

    :param stalls: columns start_ns, end_ns [ns].
    :param phases: witness.read_phases.
    :return: [ns] from the end of a shortage to the end of the last stall that overlaps or follows it, and
        began before the next shortage; of several the longest, 0 without such a stall; None if the
        scenario does not say when memory was short.
    """
    shortages = phases[phases["shortage"]].sort_values("start")
    if shortages.empty:
        return None
    following = np.append(shortages["start"].to_numpy()[1:], np.iinfo(np.int64).max)
    lengths = [0]
    for start, end, until in zip(shortages["start"], shortages["end"], following, strict=True):
        own = stalls[(stalls["end_ns"] >= start) & (stalls["start_ns"] < until)]
        lengths.append(int(own["end_ns"].max()) - end if len(own) else 0)
    return int(max(lengths))


def _share(sent: int | None, refused: int | None) -> float | None:
    """:return: the share of the frames that the NIC refused; None if none was offered."""
    if sent is None or refused is None or not sent + refused:
        return None
    return refused / (sent + refused)
