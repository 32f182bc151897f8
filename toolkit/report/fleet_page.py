# SPDX-License-Identifier: GPL-2.0-only
"""What is found of a fleet, as one HTML page that needs nothing else."""

import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from toolkit import drivers
from toolkit.fleet.overview import Overview
from toolkit.outputs import create
from toolkit.printable import printable
from toolkit.report import drawing, fleet, fleet_plots, page
from toolkit.stalls.silences import MEANS

_WIDTHS = {"kernel": 7.5, "driver": 7.5, "build": 11}
"""Of the drawings [inch]; those of kernels and drivers lie side by side."""


def save(found: Overview, file: Path, *, force: bool = False) -> None:
    """Write the page.

    :raises UserError: if the file exists and not `force`.
    """
    rendered = render(found, file)
    with create(file, force=force) as opened:
        opened.write(rendered.encode())


def render(found: Overview, file: Path | None = None) -> str:
    """Return the page of a fleet.

    :param file: its name in the command that makes the page again.
    """
    groups = [name for name in found.parts if len(found.groups[name])]
    figures: dict[str, Callable[[], Figure]] = {
        name: partial(fleet_plots.groups, found, name, _WIDTHS[name])
        for name in groups
        if len(found.parts[name])
    }
    if found.totals["silent"]:
        figures["host"] = partial(fleet_plots.hosts, found)
    if len(found.days) > 1:
        figures["days"] = partial(fleet_plots.days, found)
    if found.rollout:
        figures["rollout"] = partial(fleet_plots.rollout, found.rollout)
    return page.fill(
        "fleet.html",
        headline=fleet.headline(found),
        about=[printable(line) for line in fleet.about(found)],
        rollout=found.rollout,
        explained=found.rollout and printable(fleet.explain(found.rollout)),
        sets=[printable(line) for line in fleet.sets(found.rollout)] if found.rollout else [],
        metrics=found.rollout and fleet.metric_table(found.rollout),
        metrics_title=found.rollout and fleet.metrics_title(found.rollout),
        drawings={name: page.inline(drawing.svg(draw)) for name, draw in figures.items()},
        tables={name: fleet.silent_table(found, name) for name in found.groups},
        left={name: max(len(frame) - fleet.LISTED, 0) for name, frame in found.groups.items()},
        outliers=fleet.outliers(found),
        states=fleet.state_table(found),
        means=means(found),
        causes=fleet.cause_table(found),
        more_causes=max(len(found.causes) - fleet.LISTED, 0),
        days=fleet.day_table(found),
        more_days=max(len(found.days) - fleet.LISTED, 0),
        trend=fleet.trend(found),
        reasons=fleet.reason_table(found),
        least=fleet.least_silence(found),
        directory=str(found.directory),
        command=_command(found, file),
        query=printable(fleet.rest(found).partition(": ")[2]),
    )


def means(found: Overview) -> dict[str, str]:
    """Return what each state that was seen means, in the words of the drivers that were seen."""
    seen = list(found.states["state"].astype(str))
    own = {
        state.name: state.means
        for driver in found.groups["driver"]["driver"].dropna()
        if driver in drivers.names()
        for state in drivers.load(driver).states
    }
    return {state: words for state in seen if (words := own.get(state, MEANS.get(state)))}


def _command(found: Overview, file: Path | None) -> str:
    words = ["toolkit", "fleet", "-o", str(found.directory)]
    if found.rollout:
        words += ["--before", found.rollout.before.text, "--after", found.rollout.after.text]
    return printable(shlex.join([*words, "--html", str(file or "fleet.html")]))
