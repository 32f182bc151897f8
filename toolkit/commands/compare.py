# SPDX-License-Identifier: GPL-2.0-only
"""`toolkit compare`: did a patch cure the stall, by how much, how sure?"""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from toolkit import completion
from toolkit.printable import printable

_DIR_HELP = "Write comparison.json, runs.csv, report.html and the plot here."


class FailOn(StrEnum):
    """Verdicts that a script may take for a failure."""

    WORSE = "worse"


def compare(
    base: Annotated[
        Path, typer.Argument(metavar="BASE", help="A trace, or a directory of them: the driver as it was.")
    ],
    candidate: Annotated[
        Path, typer.Argument(metavar="CANDIDATE", help="A trace, or a directory of them: the patched driver.")
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help=_DIR_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
    silence_over: completion.SilenceOver = None,
    brief_under: completion.BriefUnder = None,
    fail_on: Annotated[
        FailOn | None, typer.Option(metavar="worse", help="Exit with 4 if that is the verdict.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files in DIR.")] = False,
) -> None:
    """Say whether a candidate stalls less, and how sure it is.

    Less than the base, by how much, and in which metrics.

    A directory is searched for *.rxt, also below. A witness.json and a phases.json beside a trace are used.

    Exits with 0 for improved, worse, and no difference seen; with 3 for cannot say.
    With --fail-on worse, exits with 4 for worse.

    Example: toolkit compare runs/unfixed runs/patched -o out --fail-on worse
    """
    import toolkit
    from toolkit import report
    from toolkit.compare import comparison
    from toolkit.compare.verdict import CANNOT_SAY
    from toolkit.outputs import refuse_existing, refuse_inputs
    from toolkit.report import comparison as text
    from toolkit.stalls.thresholds import choose

    thresholds = choose(silence_over, brief_under)
    sets = [toolkit.read_set(path, thresholds=thresholds, say=_say) for path in (base, candidate)]
    files = report.files("compare", output) if output else []
    refuse_inputs(files, [file for each in sets for trace in each for file in trace.files])
    if not force:
        refuse_existing(files)
    found = comparison.compare(*(each.runs for each in sets))
    if sys.stderr.isatty():
        _say("")
    if output:
        output.mkdir(parents=True, exist_ok=True)
        report.save("compare", found, output)
    if as_json:
        print(json.dumps(comparison.summary(found), indent=1, allow_nan=False))
    else:
        text.render(found, sys.stdout)
    if found.verdict == CANNOT_SAY:
        raise typer.Exit(3)
    if fail_on and found.verdict == fail_on.value:
        raise typer.Exit(4)


def _say(line: str) -> None:
    """Replace the last line on a terminal by another."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{printable(line)}", end="", file=sys.stderr, flush=True)
