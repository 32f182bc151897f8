# SPDX-License-Identifier: GPL-2.0-only
"""Compare two sets of runs of one driver: did a patch cure the stall, by how much, how sure?"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from toolkit.compare.metrics import Metric, of_driver
from toolkit.compare.statistics import ALPHA, RESAMPLES, SEED, measure
from toolkit.compare.verdict import Side, judge
from toolkit.english import count
from toolkit.errors import UserError
from toolkit.stalls.analysis import records
from toolkit.stalls.thresholds import DEFAULT, Thresholds, member, sentence
from toolkit.version import __version__

LONGER = 1.1
"""Runs that last longer than the other set's by more than this factor are worth a remark."""


@dataclass(frozen=True)
class Comparison:
    """The result of comparing two sets of runs.

    Attributes: `driver`, `kernel`, `scenario` of all runs; `base`, `candidate`; `verdict` and `sentence`;
    `metrics`, by name (statistics.measure); `runs`, those of both sets (runs.read_runs), with the columns
    `set`, "base" or "candidate", and `set_aside`, why a run was not compared; `caveats`, sentences on
    differences between the runs other than the build; `remarks`, other sentences; `thresholds` by which the
    runs were analyzed.
    """

    driver: str
    kernel: str
    scenario: str | None
    base: Side
    candidate: Side
    verdict: str
    sentence: str
    metrics: pd.DataFrame
    runs: pd.DataFrame
    caveats: list[str]
    remarks: list[str]
    thresholds: Thresholds = DEFAULT


def compare(base: pd.DataFrame, candidate: pd.DataFrame) -> Comparison:
    """Compare two sets of runs.

    :param base: runs of the driver as it was (runs.read_runs).
    :param candidate: runs of the patched driver.
    :raises UserError: if the sets cannot be compared: of several drivers, kernels or scenarios; if a set
        mixes builds; if a run is in both; if they were analyzed by different thresholds.
    """
    runs = pd.concat([base.assign(set="base"), candidate.assign(set="candidate")], ignore_index=True)
    _refuse(runs, base, candidate)
    thresholds = _thresholds(base, candidate)
    runs["set_aside"] = set_aside(runs)
    names = _names(base, candidate)
    sides = [
        _side(runs[runs["set"] == each], name, frame.attrs.get("path"))
        for each, name, frame in zip(("base", "candidate"), names, (base, candidate), strict=True)
    ]
    kept = runs[runs["set_aside"].isna()]
    driver = _only(runs["driver"]) or "unknown"
    known = of_driver(driver)
    metrics = measure(kept[kept["set"] == "base"], kept[kept["set"] == "candidate"], known)
    verdict, found = judge(metrics, *sides)
    said = sentence(thresholds)
    return Comparison(
        driver=driver,
        kernel=_only(runs["kernel"]) or "unknown",
        scenario=_only(runs["scenario"].dropna()),
        base=sides[0],
        candidate=sides[1],
        verdict=verdict,
        sentence=found,
        metrics=metrics,
        runs=runs,
        caveats=_caveats(kept, sides),
        remarks=[*_remarks(kept, sides, known), *([said] if said else [])],
        thresholds=thresholds,
    )


def set_aside(runs: pd.DataFrame) -> pd.Series:
    """Say on which runs no verdict may rest.

    :param runs: runs.read_runs.
    :return: for each run the reason; NA for a run that can be compared.
    """
    silent = (runs["packets"] == 0) & (runs["refills"] == 0) & (runs["stalls"] == 0)
    # The first reason that holds is given.
    reasons = {
        "the trace is not whole": runs["damage"].notna(),
        "events were dropped": runs["dropped"] > 0,
        "a stall touches dropped events": runs["uncertain"] > 0,
        "the witness disagrees": ~runs["witness_agrees"].fillna(True).astype(bool),
        "nothing was received or refilled": silent,
    }
    found = pd.Series(pd.NA, runs.index, dtype="string")
    for reason, rows in reasons.items():
        found = found.mask(found.isna() & rows, reason)
    return found


def summary(found: Comparison) -> dict[str, Any]:
    """Return the JSON object of comparison.json (docs/comparison.md)."""
    aside = found.runs[found.runs["set_aside"].notna()]
    return {
        "format": 1,
        "toolkit": __version__,
        "driver": found.driver,
        "kernel": found.kernel,
        "scenario": found.scenario,
        **member(found.thresholds),
        "base": asdict(found.base),
        "candidate": asdict(found.candidate),
        "verdict": found.verdict,
        "sentence": found.sentence,
        "caveats": found.caveats,
        "remarks": found.remarks,
        "metrics": records(found.metrics.reset_index()),
        "set_aside": records(aside[["set", "trace", "set_aside"]].rename(columns={"set_aside": "reason"})),
        "method": {"alpha": ALPHA, "resamples": RESAMPLES, "seed": SEED},
    }


def _refuse(runs: pd.DataFrame, base: pd.DataFrame, candidate: pd.DataFrame) -> None:
    """Refuse sets that cannot be compared.

    :raises UserError: if the sets cannot be compared.
    """
    if base.empty or candidate.empty:
        raise UserError("there must be at least one run in each of the two sets.")
    places = [{Path(each).resolve() for each in frame["trace"]} for frame in (base, candidate)]
    if both := places[0] & places[1]:
        raise UserError(f"{min(both)} is in both sets; give two that share no trace.")
    for column, what in (("driver", "drivers"), ("kernel", "kernels"), ("scenario", "scenarios")):
        found = _distinct(runs[column].dropna() if column == "scenario" else runs[column])
        if len(found) > 1:
            raise UserError(f"the runs are of different {what}: {', '.join(found)}; compare runs of one.")
    for name, frame in (("base", base), ("candidate", candidate)):
        builds = frame[["variant", "srcversion"]].fillna("unknown").drop_duplicates()
        if len(builds) > 1:
            found = [f"{variant} (srcversion {source})" for variant, source in builds.itertuples(index=False)]
            raise UserError(
                f"the {name} mixes builds of the driver: {', '.join(found)}; compare one build with another."
            )


def _thresholds(base: pd.DataFrame, candidate: pd.DataFrame) -> Thresholds:
    """Return the thresholds by which both sets were analyzed.

    :raises UserError: if they differ.
    """
    one, other = (Thresholds(**frame.attrs.get("thresholds", {})) for frame in (base, candidate))
    if one != other:
        raise UserError("the sets were analyzed by different thresholds: read both with the same.")
    return one


def _distinct(values: pd.Series) -> list[str]:
    return sorted(values.fillna("unknown").unique())


def _only(values: pd.Series) -> str | None:
    """Return the value that all rows have."""
    return None if values.empty or pd.isna(values.iloc[0]) else str(values.iloc[0])


def _names(base: pd.DataFrame, candidate: pd.DataFrame) -> tuple[str, str]:
    """Return names for the sets: the variants, or names of the paths if both sets have the same variant."""
    sets = (base, candidate)
    paths = [Path(frame.attrs.get("path", "")).resolve() for frame in sets]
    variants, stems, folders = (
        [_only(frame["variant"]) for frame in sets],
        [path.name.removesuffix(".rxt") for path in paths],
        [path.parent.name for path in paths],
    )
    for first, second in (variants, stems, folders):
        if first and second and first != second:
            return first, second
    return "base", "candidate"


def _side(runs: pd.DataFrame, name: str, path: str | None) -> Side:
    kept = runs[runs["set_aside"].isna()]
    return Side(
        name=name,
        path=path,
        variant=_only(runs["variant"]),
        srcversion=_only(runs["srcversion"]),
        runs=len(kept),
        set_aside=len(runs) - len(kept),
        stalled=int((kept["stalls"] > 0).sum()),
    )


def _caveats(kept: pd.DataFrame, sides: Sequence[Side]) -> list[str]:
    """Say in what the runs differ other than the build: in their load, or in the scenario's parameters."""
    caveats = []
    for what, each in (("load", _load), ("scenario's parameters", _parameters(kept))):
        words = kept.apply(each, axis="columns") if len(kept) else pd.Series(dtype="str")
        if words.nunique() < 2:
            continue
        said = [
            f"{' and '.join(sorted(words[kept['set'] == name].unique()))} in {side.name}"
            for name, side in zip(("base", "candidate"), sides, strict=True)
            if side.runs
        ]
        caveats.append(
            f"The runs differ in more than the build: the {what}: {'; '.join(said)}. "
            "A difference of the stalls may come of that."
        )
    return caveats


def _load(run: pd.Series) -> str:
    """Return the load of a run, in words."""
    if pd.isna(run["rate"]):
        return "not known"
    size = "" if pd.isna(run["size"]) else f" of {run['size']:,.0f} bytes"
    return f"{run['rate']:,.0f} a second{size}"


def _parameters(kept: pd.DataFrame) -> Callable[[pd.Series], str]:
    """Return a function that names, for a run, the parameters in which any two runs differ."""
    known = [json.loads(each) for each in kept["parameters"].dropna()]
    names = sorted({name for each in known for name in each})
    differ = [name for name in names if len({json.dumps(each.get(name)) for each in known}) > 1]

    def words(run: pd.Series) -> str:
        if pd.isna(run["parameters"]):
            return "not known"
        own = json.loads(run["parameters"])
        return ", ".join(f"{name} {own.get(name)}" for name in differ) or "known"

    return words


def _remarks(kept: pd.DataFrame, sides: Sequence[Side], known: Sequence[Metric]) -> list[str]:
    """Return remarks on the comparison: sentences that are neither the verdict nor a caveat."""
    unknown = [each.title for each in known if kept[each.name].isna().any()]
    remarks = []
    if unknown:
        remarks.append(f"Not compared, since not every run knows it: {', '.join(unknown)}.")
    length = [kept.loc[kept["set"] == each, "duration_ns"].median() / 1e9 for each in ("base", "candidate")]
    if min(length) > 0 and max(length) > LONGER * min(length):
        remarks.append(
            f"Runs of {sides[0].name} last {length[0]:.1f} s, of {sides[1].name} {length[1]:.1f} s "
            "(medians): times and counts are those of a run, whatever its length."
        )
    open_ones = int(kept["open"].sum())
    if open_ones:
        remarks.append(
            f"{count(open_ones, 'stall')} had not ended with the trace: such a length is a lower bound."
        )
    return remarks
