# SPDX-License-Identifier: GPL-2.0-only
"""Write sentences and tables: as wide as the terminal, or as plain text where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

import pandas as pd

if TYPE_CHECKING:
    from rich.table import Table

WORDS = (
    *("device", "state", "class", "cause", "metric", "finding", "thread", "function", "called by"),
    *("host", "kernel", "driver", "build", "day", "status", "reason", "such as"),
)
"""Columns of words, which are set to the left."""

_LESS = (
    "silent traces",
    "traced [h]",
    "in stalls [s/h]",
    "waiting [s]",
    "refill [s]",
    "refills",
    "retries",
    "fallbacks",
    "start [UTC]",
    "alloc failures",
    "witness [ms]",
    "polls",
    "poll gap p99 [ms]",
    "failed",
    "poll gap max [ms]",
    "open",
    "silent [s]",
    "posted min",
    "ratio (95 %)",
    "adjusted p",
)
"""Columns that a narrow terminal can do without, the first ones first."""

_CAUSE = 24


def say(sentence: str, out: TextIO) -> None:
    """Write a sentence; on a terminal, in lines that break between words."""
    if not out.isatty():
        print(sentence, file=out)
        return
    from rich.console import Console
    from rich.text import Text

    Console(file=out).print(Text(sentence))


def show(title: str, table: pd.DataFrame, out: TextIO) -> None:
    """Write a table under its title; on a terminal, as many columns as there is room for."""
    if not out.isatty():
        print(f"\n{title}\n{table.to_string(index=False)}\n", file=out)
        return
    from rich.console import Console

    console, left_out = Console(file=out), []
    for name in _LESS:
        # Two blanks between columns, and one at each end.
        if sum(_widths(table)) + 2 * len(table.columns) + 2 <= console.width:
            break
        if name in table:
            table = table.drop(columns=name)
            left_out.append(name)
    console.print(_drawn(title, table))
    if left_out:
        console.print(
            f"A wider terminal shows also: {', '.join(left_out)}.", style="dim", highlight=False, markup=False
        )


def _widths(table: pd.DataFrame) -> list[int]:
    """Return the fewest characters that each column can do with: words wrap, numbers do not."""
    return [
        max(
            max(map(len, _heading(str(name)).splitlines())),
            *(len(part) for cell in table[name] for part in (cell.split() if name in WORDS else [cell])),
            _CAUSE if name == "cause" else 0,
        )
        for name in table
    ]


def _heading(name: str) -> str:
    """Return the name of a column of numbers in several lines."""
    return name.replace(" ", "\n").replace("\n%", " %")


def _drawn(title: str, table: pd.DataFrame) -> Table:
    """Return the table as rich draws it on a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    drawn = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for name, width in zip(map(str, table), _widths(table), strict=True):
        # A unit in brackets is no markup.
        if name in WORDS:
            drawn.add_column(Text(name), min_width=width)
        else:
            drawn.add_column(Text(_heading(name)), justify="right", width=width)
    for row in table.itertuples(index=False):
        drawn.add_row(*(Text(cell) for cell in row))
    return drawn
