# SPDX-License-Identifier: GPL-2.0-only
"""The page of the survey: two tables, a picture, and the runs as JSON."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from statistics import median

import jinja2

from toolkit.report import drawing
from vm.survey import picture, runs
from vm.survey.outcome import Outcome, states

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    :param of: the number of a run; None if it is not known.
    :param digits: after the point.
    """

    title: str
    of: Callable[[Outcome], float | None]
    digits: int


HOW_LONG = (
    Column("deaf [s]", lambda run: run.deaf_s, 1),
    Column("of it spinning [s]", lambda run: run.spinning_s, 1),
    Column("dropping [s]", lambda run: run.dropping_s, 1),
    Column("after memory was back [s]", lambda run: run.after_s, 2),
)
HOW_MUCH = (
    Column("failed allocations", lambda run: run.failed, 0),
    Column("polls for nothing", lambda run: run.polls, 0),
    Column("lost frames [%]", lambda run: _percent(run.lost, run.frames), 1),
    Column("refused frames [%]", lambda run: _percent(run.refused, run.frames), 1),
    Column("longest refusal [s]", lambda run: run.gap_s, 1),
)


def write(folder: Path, outcomes: Sequence[Outcome]) -> Path:
    """Write survey.md, and the picture and the runs beside it, in survey/.

    :param folder: for the page.
    :param outcomes: all runs.
    """
    beside = folder / "survey"
    beside.mkdir(parents=True, exist_ok=True)
    rows = ",\n".join(json.dumps(asdict(run)) for run in outcomes)
    (beside / "runs.json").write_text(f"[\n{rows}\n]\n")
    with (beside / "survey.png").open("wb") as png:
        drawing.write(lambda: picture.draw(outcomes), png, io.BytesIO())
    page = folder / "survey.md"
    page.write_text(render(outcomes))
    return page


def render(outcomes: Sequence[Outcome]) -> str:
    """Return the page."""
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    ).get_template("page.md.j2")
    return template.render(
        how_long=_table(outcomes, HOW_LONG, {"runs": _lived, "state": _state}),
        how_much=_table(outcomes, HOW_MUCH, {}),
        deaths=[
            f"{run.driver}, Linux {run.kernel}, run {run.number}: `{run.died}`"
            for run in outcomes
            if run.died
        ],
        complaints=_complaints(outcomes),
        scenario=" ".join(runs.SCENARIO),
        rate=runs.RATE,
    )


def _complaints(outcomes: Sequence[Outcome]) -> list[str]:
    """Return what kernels said in their logs; a log is of all NICs of a run."""
    lines = (f"Linux {run.kernel}, run {run.number}: `{line}`" for run in outcomes for line in run.log)
    return list(dict.fromkeys(lines))


def _table(
    outcomes: Sequence[Outcome],
    columns: Sequence[Column],
    words: dict[str, Callable[[Sequence[Outcome]], str]],
) -> str:
    """Return a row for each driver and kernel: words, then medians with the least and the most."""
    lines = [
        ["driver", "Linux", *words, *(column.title for column in columns)],
        ["---", "---", *["---"] * len(words), *["---:"] * len(columns)],
    ]
    for (driver, kernel), group in groupby(outcomes, lambda run: (run.driver, run.kernel)):
        of = list(group)
        cells = [tell(of) for tell in words.values()]
        lines.append([driver, kernel, *cells, *(_range(of, column) for column in columns)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _range(of: Sequence[Outcome], column: Column) -> str:
    """Return the median of a column, with the least and the most if they differ."""
    known = [value for run in of if (value := column.of(run)) is not None]
    if not known:
        return "-"
    middle, least, most = (f"{each:,.{column.digits}f}" for each in (median(known), min(known), max(known)))
    return middle if least == most else f"{middle} [{least} to {most}]"


def _lived(of: Sequence[Outcome]) -> str:
    """Return the number of runs; and how many ended with the machine."""
    dead = sum(run.died is not None for run in of)
    return f"{len(of)}, {dead} died" if dead else str(len(of))


def _state(of: Sequence[Outcome]) -> str:
    """Return the states in which the runs were longest, the most frequent first."""
    longest = [
        max(times, key=times.__getitem__) if (times := states(run)) else "none" for run in of if not run.died
    ]
    return ", ".join(sorted(set(longest), key=longest.count, reverse=True)) or "-"


def _percent(part: int | None, whole: int | None) -> float | None:
    return None if part is None or not whole else 100 * part / whole
