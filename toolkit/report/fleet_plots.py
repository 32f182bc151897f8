# SPDX-License-Identifier: GPL-2.0-only
"""Draw what a fleet is like: its hosts, its kernels and builds, its days, a rollout."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from toolkit.english import count
from toolkit.fleet.findings import GROUPS
from toolkit.fleet.overview import Overview
from toolkit.fleet.rollout import Rollout
from toolkit.report.compare.distributions import SETS
from toolkit.report.drawing import STATES
from toolkit.report.fleet import per_hour

BARS = 12
"""As many kernels, drivers or builds are drawn, those that are silent for most of their time."""

_MANY = 500
_MARKS = 60
"""With more hosts, each as a mark would be a smear."""
_SPREAD = 30
"""Values that differ by more than this factor are drawn on a scale of logarithms."""
_LEGEND = 5
"""As many states stand beside each other in a legend."""
_OTHER = "#999999"
_CARE = "#d55e00"


def hosts(found: Overview) -> Figure:
    """Draw the silence of each silent host, the most silent first, with the fence of the outliers."""
    figure = Figure(figsize=(11, 3.8))
    axis = figure.subplots()
    known = found.groups["host"][found.groups["host"]["host"].notna()]
    values = known.loc[known["silence_ns"] > 0, "silence_ns_per_h"].to_numpy(np.float64) / 1e9
    never = len(known) - len(values)
    hidden = f"; {count(never, 'host')} without any" if never else ""
    axis.set_title(f"Silence of each host ({count(len(values), 'host')}{hidden})")
    axis.set_xlabel("silent hosts, the most silent first")
    axis.set_ylabel("silent for each traced hour [s/h]")
    axis.set_yscale("log")
    axis.plot(
        np.arange(1, len(values) + 1), values, "o", color="#0072b2", ms=3.5, rasterized=len(values) > _MANY
    )
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.grid(axis="y", color="#e5e5e5", linewidth=0.6)
    if pd.notna(fence := found.rule["fence"]):
        axis.axhline(fence / 1e9, color=_CARE, linewidth=1, linestyle="--")
        axis.annotate(
            f"outliers are above {per_hour(fence)} s/h",
            (1, fence / 1e9),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            color=_CARE,
            fontsize=8,
        )
    return figure


def groups(found: Overview, group: str, width: float = 7.5) -> Figure:
    """Draw for how long each kernel, driver or build was silent in each state.

    :param group: kernel, driver or build.
    :param width: of the drawing [inch].
    """
    silent = found.groups[group].head(BARS)[::-1]
    keys = GROUPS[group]
    parts = silent[keys].merge(found.parts[group].reset_index(), "left", keys).drop(columns=keys)
    hours = np.maximum(silent["traced_ns"].to_numpy(np.float64), 1) / 3.6e12
    figure = Figure(figsize=(width, 1.5 + 0.3 * len(silent)))
    axis = figure.subplots()
    more = len(found.groups[group]) - len(silent)
    axis.set_title(f"Silence by {group}{f', the {BARS} most silent' if more else ''}")
    axis.set_xlabel("silent for each traced hour [s/h]")
    left = np.zeros(len(silent))
    for state in parts:
        length = parts[state].fillna(0).to_numpy() / 1e9 / hours
        if length.any():
            colour = STATES.get(str(state), _OTHER)
            axis.barh(np.arange(len(silent)), length, left=left, color=colour, label=state)
        left += length
    axis.set_yticks(np.arange(len(silent)), [_name(row, keys) for row in silent[keys].to_dict("records")])
    axis.set_ylim(-0.6, max(len(silent), 1) - 0.4)
    handles, labels = axis.get_legend_handles_labels()
    columns = min(max(len(labels), 1), _LEGEND)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def days(found: Overview) -> Figure:
    """Draw the mean silence of the hosts of each day, its 95 % interval, and how many hosts there were."""
    figure = Figure(figsize=(11, 4.2))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    table = found.days
    upper.set_title("Silence by day: mean of the hosts, and its 95 % interval")
    upper.set_ylabel("silent [s/h]")
    lower.set_ylabel("hosts")
    lower.set_xlabel("day on which the trace began [UTC]")
    low, high = (
        table["low"].fillna(table["silence_ns_per_h"]),
        table["high"].fillna(table["silence_ns_per_h"]),
    )
    upper.fill_between(table["day"], low / 1e9, high / 1e9, color="#0072b2", alpha=0.2, linewidth=0)
    upper.plot(table["day"], table["silence_ns_per_h"] / 1e9, "o-", color="#0072b2", ms=4)
    upper.set_ylim(bottom=0)
    upper.grid(axis="y", color="#e5e5e5", linewidth=0.6)
    lower.bar(table["day"], table["hosts"], color="#bbbbbb", width=0.8)
    lower.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    locator = AutoDateLocator(maxticks=10)  # type: ignore[no-untyped-call]
    lower.xaxis.set_major_locator(locator)
    lower.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    return figure


def rollout(found: Rollout) -> Figure:
    """Draw for each metric that decides which share of the hosts has at most a value, before and after."""
    metrics = found.metrics[found.metrics["role"] != "informs"]
    metrics = metrics[metrics["varies"].astype(bool)]
    figure = Figure(figsize=(11, 4.2))
    panels = figure.subplots(1, max(len(metrics), 1), squeeze=False)[0]
    figure.suptitle(f"Hosts before and after: {found.verdict}", x=0.01, ha="left", fontsize=12)
    for axis, (name, metric) in zip(panels, metrics.iterrows(), strict=False):
        _draw(axis, found.hosts[["set", str(name)]], metric)
    if metrics.empty:
        panels[0].set_axis_off()
        panels[0].text(0, 0.5, "In every metric, all hosts are the same.", transform=panels[0].transAxes)
        return figure
    handles, _ = panels[0].get_legend_handles_labels()
    labels = [f"{side.name} ({count(side.hosts, 'host')})" for side in found.sides if side.hosts]
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _draw(axis: Axes, hosts: pd.DataFrame, metric: pd.Series) -> None:
    name = str(metric.name)
    scale, unit = (1e-9, "s/h") if metric["unit"] == "ns/h" else (1.0, "per traced hour")
    values = hosts[name].to_numpy(np.float64) * scale
    marks = hosts["set"].value_counts().max() <= _MARKS
    for each, style in zip(("before", "after"), SETS.values(), strict=True):
        mine = np.sort(values[(hosts["set"] == each).to_numpy()])
        if not len(mine):
            continue
        share = 100 * np.arange(1, len(mine) + 1) / len(mine)
        line = {key: style[key] for key in style if marks or "marker" not in key}
        axis.step([0, *mine, 1.05 * values.max()], [0, *share, 100], where="post", label=each, **line)
    # Hosts differ by powers of ten, and some have nothing at all.
    least = values[values > 0].min(initial=np.inf)
    if np.isfinite(least) and values.max() > _SPREAD * least:
        axis.set_xscale("symlog", linthresh=10 ** np.floor(np.log10(least)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    else:
        axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.set_xlim(0, 1.05 * values.max())
    axis.set_ylim(0, 104)
    p = metric["p_adjusted"]
    word = metric["direction"] if metric["significant"] else "no difference seen"
    said = "not tested" if pd.isna(p) else f"{word}, adjusted p = {p:.2g}"
    axis.set_title(f"{str(metric['title']).capitalize()}\n{said}", fontsize=9)
    axis.set_xlabel(f"{metric['title']} [{unit}]")
    axis.set_ylabel("hosts at or below [%]")
    axis.grid(color="#e5e5e5", linewidth=0.6)


def _name(row: Mapping[Any, Any], keys: list[str]) -> str:
    """Return the name of a group; "unknown" for what is not known."""
    return " ".join("unknown" if pd.isna(row[key]) else str(row[key]) for key in keys)
