# SPDX-License-Identifier: GPL-2.0-only
"""All findings of a fleet at once: what text, page and JSON show."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from toolkit.compare.statistics import ALPHA, SEED
from toolkit.errors import UserError
from toolkit.fleet import days, findings, frames, hosts, rollout
from toolkit.fleet.dataset import WHOLE
from toolkit.fleet.days import Trend
from toolkit.fleet.rollout import Rollout
from toolkit.stalls.analysis import records
from toolkit.stalls.thresholds import DEFAULT, Thresholds
from toolkit.version import __version__

LISTED = 1000
"""As many rows of each table are in a summary; the dataset has all."""


@dataclass(frozen=True)
class Overview:
    """The findings of a fleet.

    Attributes: `directory` of the dataset; `totals`, numbers of the whole fleet; `groups`, by name of
    findings.GROUPS; `states`, `causes`, `reasons` (findings); `days`, `trend` (days); `outliers`, `rule`
    (hosts.outliers); `parts`, the time [ns] of each kernel, driver and build in each state, by name of the
    group; `rollout`, None if no conditions were given; `thresholds` by which traces were analyzed, and how
    many traces by each, the most first.
    """

    directory: Path
    totals: dict[str, Any]
    groups: dict[str, pd.DataFrame]
    parts: dict[str, pd.DataFrame]
    states: pd.DataFrame
    causes: pd.DataFrame
    reasons: pd.DataFrame
    days: pd.DataFrame
    trend: Trend
    outliers: pd.DataFrame
    rule: dict[str, float]
    rollout: Rollout | None
    thresholds: dict[Thresholds, int]


def look(directory: Path | str, before: str | None = None, after: str | None = None) -> Overview:
    """Make all findings of a dataset.

    :param before: conditions (toolkit.fleet.conditions) of the traces before a rollout; after: after it.
    :raises UserError: if the directory is no dataset, or has no trace; if a condition chooses nothing.
    """
    if (before is None) != (after is None):
        raise UserError("--before and --after go together.")
    fleet = frames.read(directory)
    if fleet.traces.empty:
        raise UserError(f"there is no trace in the dataset {directory}: analyze some first.")
    compared = rollout.compare(fleet.traces, before, after) if before and after else None
    groups = {name: findings.silent(fleet, name) for name in findings.GROUPS}
    far, rule = hosts.outliers(groups["host"])
    return Overview(
        directory=Path(directory),
        totals=totals(fleet, groups["host"]),
        groups=groups,
        parts={name: findings.parts(fleet, name) for name in ("kernel", "driver", "build")},
        states=findings.states(fleet),
        causes=findings.why(fleet),
        reasons=findings.reasons(fleet.traces),
        days=days.by_day(fleet.traces),
        trend=days.trend(fleet.traces),
        outliers=far,
        rule={str(name): float(value) for name, value in rule.iloc[0].items()},
        rollout=compared,
        thresholds=thresholds(fleet.traces),
    )


def thresholds(traces: pd.DataFrame) -> dict[Thresholds, int]:
    """Return by which thresholds traces were analyzed, and how many traces by each, the most first.

    Those of an older toolkit do not say it: they have the defaults.
    """
    read = frames.by_place(traces[traces["duration_ns"].notna()])
    columns = [read[name].fillna(value) for name, value in asdict(DEFAULT).items()]
    counts = Counter(zip(*(column.tolist() for column in columns), strict=True))
    return {Thresholds(*values): number for values, number in counts.most_common()}


def totals(fleet: frames.Fleet, silent: pd.DataFrame) -> dict[str, Any]:
    """Return numbers of the whole fleet.

    :param silent: findings.silent by host.
    :return: `traces`, how many were `read`, how many are `whole`, how many are without_host; `hosts` with a
        known name, and how many of them were `silent`; `first` and `last` day, None if not known; traced_ns;
        stalled_ns, silent_ns and silence_ns, sums as in findings.silent; host_mean and host_median [ns/h] of
        the silence of hosts, None without hosts.
    """
    traces = frames.by_place(fleet.traces)
    known = silent[silent["host"].notna()]
    when = traces["day"].dropna()
    values = known["silence_ns_per_h"].astype("float64")
    return {
        "traces": len(traces),
        "whole": int((traces["status"] == WHOLE).sum()),
        "read": int(traces["duration_ns"].notna().sum()),
        "without_host": int(traces["host"].isna().sum()),
        "hosts": len(known),
        "silent": int((known["silence_ns"] > 0).sum()),
        "first": f"{when.min():%Y-%m-%d}" if len(when) else None,
        "last": f"{when.max():%Y-%m-%d}" if len(when) else None,
        **{
            f"{name}_ns": int(silent[f"{name}_ns"].sum())
            for name in ("traced", "stalled", "silent", "silence")
        },
        "host_mean": float(values.mean()) if len(values) else None,
        "host_median": float(values.median()) if len(values) else None,
    }


def summary(found: Overview) -> dict[str, Any]:
    """Return the JSON object of a fleet (docs/fleet-findings.md)."""
    tables = {
        **{f"{name}s": frame for name, frame in found.groups.items()},
        "states": found.states,
        "causes": found.causes,
        "days": found.days.assign(day=found.days["day"].dt.strftime("%Y-%m-%d")),
        "outliers": found.outliers,
        "reasons": found.reasons,
    }
    return {
        "format": 1,
        "toolkit": __version__,
        "dataset": str(found.directory),
        "totals": found.totals,
        **({} if set(found.thresholds) <= {DEFAULT} else {"thresholds": _thresholds(found.thresholds)}),
        "trend": found.trend._asdict() | {"p": _null(found.trend.p)},
        "rule": {name: _null(value) for name, value in found.rule.items()},
        **{name: records(frame.head(LISTED)) for name, frame in tables.items()},
        "left_out": {name: len(frame) - LISTED for name, frame in tables.items() if len(frame) > LISTED},
        "rollout": _rollout(found.rollout) if found.rollout else None,
    }


def _thresholds(counts: Mapping[Thresholds, int]) -> list[dict[str, int]]:
    return [asdict(each) | {"traces": number} for each, number in counts.items()]


def _rollout(found: Rollout) -> dict[str, Any]:
    return {
        "verdict": found.verdict,
        "why": found.why or None,
        "before": asdict(found.before),
        "after": asdict(found.after),
        "paired": found.paired,
        "caveats": found.caveats,
        "remarks": found.remarks,
        "metrics": records(found.metrics.reset_index()),
        "method": {"unit": "host", "of": found.of, "alpha": ALPHA, "seed": SEED},
    }


def _null(value: float) -> float | None:
    return None if pd.isna(value) else value
