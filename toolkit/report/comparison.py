# SPDX-License-Identifier: GPL-2.0-only
"""A comparison as text."""

from collections.abc import Mapping
from typing import Any, TextIO

import pandas as pd

from toolkit.compare.comparison import Comparison
from toolkit.compare.metrics import heading, number
from toolkit.compare.verdict import finding
from toolkit.english import count
from toolkit.printable import printable
from toolkit.report.terminal import say, show


def render(found: Comparison, out: TextIO) -> None:
    """Write the verdict, the metrics, the runs set aside, and remarks; on a terminal, the table is drawn."""
    for line in [f"{found.verdict}: {found.sentence}", *found.caveats]:
        say(printable(line), out)
    show("Metrics, medians of the runs", metric_table(found), out)
    aside = found.runs[found.runs["set_aside"].notna()]
    for trace, reason in zip(aside["trace"], aside["set_aside"], strict=True):
        say(printable(f"Set aside: {trace}: {reason}."), out)
    for line in [*found.remarks, about(found)]:
        say(printable(line), out)


def about(found: Comparison) -> str:
    """Return a sentence that says what was compared."""
    sets = " with ".join(
        f"{count(side.runs, 'run')} of {side.name}" for side in (found.base, found.candidate)
    )
    scenario = f", scenario {found.scenario}" if found.scenario else ""
    return f"Compared: {sets}; {found.driver}, kernel {found.kernel}{scenario}."


def metric_table(found: Comparison) -> pd.DataFrame:
    """Return the table of metrics as it is shown: strings only, one row for each metric.

    The columns are the metric with its unit, the median of each set under the set's name, difference and
    ratio with their 95 % intervals, the adjusted p, and what was found. A number that is not defined is "-".
    """
    return pd.DataFrame(
        [
            {
                "metric": heading(row["title"], row["unit"]),
                found.base.name: _number(row["base_median"], row["unit"]),
                found.candidate.name: _number(row["candidate_median"], row["unit"]),
                "difference (95 %)": _number(row["difference"], row["unit"])
                + _interval(row, "difference", row["unit"]),
                "ratio (95 %)": _number(row["ratio"]) + _interval(row, "ratio"),
                "adjusted p": "-" if pd.isna(row["p_adjusted"]) else f"{row['p_adjusted']:.2g}",
                "finding": _finding(found, row),
            }
            for row in found.metrics.to_dict("records")
        ]
    )


def _number(value: float, unit: str = "") -> str:
    return "-" if pd.isna(value) else number(value, unit) if unit else f"{value:.2f}"


def _interval(row: Mapping[Any, Any], of: str, unit: str = "") -> str:
    """Return both ends of an interval in brackets; an end that is not known is left out."""
    low, high = row[f"{of}_low"], row[f"{of}_high"]
    if pd.isna(low):
        return ""
    return f" ({_number(low, unit)} to {_number(high, unit) if pd.notna(high) else 'not known'})"


def _finding(found: Comparison, row: Mapping[Any, Any]) -> str:
    """Return in a few words what the test says of one metric."""
    runs = found.base.runs, found.candidate.runs
    if not row["varies"] and all(runs):
        return "the same in all runs"
    if pd.isna(row["p"]):
        return "not tested"
    word = finding(row, *runs, found.metrics)
    return f"{word} (only informs)" if row["role"] == "informs" else word
