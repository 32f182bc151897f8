# SPDX-License-Identifier: GPL-2.0-only
"""The page of a driver under docs/results: its patch's claim, and what experiments found."""

import json
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

import toolkit
from toolkit.compare.comparison import set_aside
from toolkit.compare.metrics import heading, number, of_driver
from toolkit.errors import UserError
from toolkit.runs import read_runs
from vm import drivers

_REASONS = {
    "no_ticks_ns": "no ticks",
    "served_ns": "frames taken",
    "idle_ns": "not scheduled",
    "while_busy_ns": "no poll ended",
    "unexplained_ns": "unexplained",
}
"""Members of a witness (docs/stalls.md), and how the page calls them."""


def write(driver: str, experiments: Sequence[Path], folder: Path) -> Path:
    """Write DRIVER.md and the pictures beside it, in DRIVER/.

    :param driver: one with variants; its results/ has claim.md, and SCENARIO.md for the findings.
    :param experiments: finished ones (vm.experiment), in the order of the page.
    :param folder: for the page; it is made.
    :raises UserError: if one of them is not a finished experiment of that driver.
    """
    words = drivers.HERE / driver / "results"
    pictures = folder / driver
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    found = [_experiment(driver, each, words, pictures) for each in experiments]
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(drivers.HERE),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    ).get_template("results.md.j2")
    page = folder / f"{driver}.md"
    page.write_text(template.render(driver=driver, claim=_words(words / "claim.md"), experiments=found))
    return page


def _experiment(driver: str, path: Path, words: Path, pictures: Path) -> dict[str, Any]:
    """Return what the template says of one experiment."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        verdict = json.loads((path / "verdict.json").read_text())
    except (OSError, ValueError):
        raise UserError(f"{path} holds no finished experiment.") from None
    plan = manifest["plan"]
    if plan["driver"] != driver:
        raise UserError(f"{path} is an experiment with {plan['driver']}, not {driver}.")
    runs = {variant: read_runs(path / "runs" / variant) for variant in plan["variants"]}
    scenario = plan["scenario"][0]
    # Of all pairs only neighbours are drawn; the rest is in the words.
    neighbours = list(pairwise(plan["variants"]))
    drawn = [each for each in verdict["comparisons"] if _names(each) in neighbours]
    return {
        "scenario": scenario,
        "path": path,
        "about": _about(manifest, runs, sum(verdict["repeated"].values())),
        "table": _table(driver, runs),
        "refused": _refused({variant: path / "runs" / variant for variant in plan["variants"]}),
        "comparisons": verdict["comparisons"],
        "pictures": [_picture(path, each, scenario, pictures) for each in drawn],
        "findings": _words(words / f"{scenario}.md"),
        "command": _command(plan, max(len(each) for each in runs.values()), path),
    }


def _about(manifest: dict[str, Any], runs: dict[str, pd.DataFrame], repeated: int) -> str:
    """Return what was run, in sentences."""
    every = pd.concat(runs.values())
    machine = manifest["machine"]
    counts = ", ".join(f"{len(frame)} of {variant}" for variant, frame in runs.items())
    aside = int(set_aside(every).notna().sum())
    return (
        f"{len(every)} runs, each in a fresh machine: {counts}. {machine['description'][0].upper()}"
        f"{machine['description'][1:]}; {machine['memory_mb']} MiB, {machine['cpus']} CPUs"
        f"{', ' + manifest['accel'] if 'accel' in manifest else ''}; kernel {every['kernel'].iloc[0]}. "
        f"Runs that could not be used and were repeated: {repeated}; set aside of the others: {aside}. "
        f"Events dropped: {every['dropped'].sum()}."
    )


def _table(driver: str, runs: dict[str, pd.DataFrame]) -> str:
    """Return the medians of each variant in Markdown."""
    table = pd.DataFrame(
        {
            "variant": variant,
            **{
                heading(metric.title, metric.unit): _range(frame[metric.name], metric.unit)
                for metric in of_driver(driver)
            },
        }
        for variant, frame in ((name, each[set_aside(each).isna()]) for name, each in runs.items())
    )
    return _markdown(table)


def _refused(variants: Mapping[str, Path]) -> str:
    """Return in Markdown where the time went in which the senders' frames were refused; "" if none were."""
    rows = []
    for variant, folder in variants.items():
        seen = [toolkit.read(path).agreement for path in sorted(folder.glob("*/trace.rxt"))]
        refused = [each for each in seen if each and each["refused_ns"]]
        if not refused:
            return ""
        whole = sum(each["refused_ns"] for each in refused)
        spent = Counter[str]()
        for each in refused:
            spent.update({"in stalls": each["in_stalls_ns"]} | each["in_silences_ns"] | each["in_events_ns"])
            spent.update({title: each[name] for name, title in _REASONS.items()})
        most = max(each["unexplained_ns"] / each["refused_ns"] for each in refused)
        parts = {f"{title} [%]": f"{much / whole * 100:.1f}" for title, much in spent.items()}
        rows.append(
            {"variant": variant, "refused [s]": f"{whole / 1e9:.1f}", **parts}
            | {"most unexplained of a run [%]": f"{most * 100:.1f}"}
        )
    return _markdown(pd.DataFrame(rows))


def _markdown(table: pd.DataFrame) -> str:
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _range(values: pd.Series, unit: str) -> str:
    known = values.dropna()
    if known.empty:
        return "-"
    middle, least, most = (number(float(each), unit) for each in (known.median(), known.min(), known.max()))
    return middle if least == most else f"{middle} ({least} to {most})"


def _picture(path: Path, comparison: dict[str, Any], scenario: str, pictures: Path) -> dict[str, str]:
    """Return path and title of a comparison's plot, which is copied."""
    names = _names(comparison)
    # A variant's name may have parameters in it, and not every system takes those as a file's.
    target = pictures / (re.sub(r"[^\w-]+", "-", f"{scenario}-{'-'.join(names)}") + ".png")
    shutil.copy(path / "-".join(names) / "distributions.png", target)
    return {
        "path": f"{pictures.name}/{target.name}",
        "title": f"{names[0]} and {names[1]} under {scenario}: every run, by metric",
    }


def _names(comparison: dict[str, Any]) -> tuple[str, str]:
    """Return the names of base and candidate."""
    return comparison["base"]["name"], comparison["candidate"]["name"]


def _command(plan: dict[str, Any], runs: int, path: Path) -> str:
    words = ["python", "-m", "vm", "experiment", plan["driver"], "--scenario", " ".join(plan["scenario"])]
    words += ["--variants", ",".join(plan["variants"]), "--runs", str(runs), "--seed", str(plan["seed"])]
    return shlex.join([*words, "--out", str(path)])


def _words(path: Path) -> str:
    """Return a text without its licence line."""
    if not path.exists():
        return ""
    return "\n".join(line for line in path.read_text().splitlines() if "SPDX" not in line).strip() + "\n"
