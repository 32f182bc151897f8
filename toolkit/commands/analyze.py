# SPDX-License-Identifier: GPL-2.0-only
"""`toolkit analyze`: when and why the queues of a trace could not receive."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit import completion
from toolkit.errors import UserError, already_there
from toolkit.extras import need
from toolkit.outputs import create, refuse_existing, refuse_inputs
from toolkit.printable import printable

_LONGEST = 1e9
"""Seconds; every trace is shorter."""

if TYPE_CHECKING:
    from toolkit.traces import Trace

_TRACE_HELP = "Trace files of `toolkit trace`, or directories that are searched for them (*.rxt), also below."
_FROM_HELP = "Show only what ends after that: seconds since the trace began, or 2026-01-31T12:00:00 (UTC)."
_DIR_HELP = "Write tables and plots here; for several traces, a table of all and a directory for each."


def analyze(
    traces: Annotated[list[Path], typer.Argument(metavar="TRACE", help=_TRACE_HELP)],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help=_DIR_HELP)] = None,
    witness: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON of a frame sender: when were frames refused?")
    ] = None,
    phases: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON of a scenario: its phases, for the timeline.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a report: one page that needs nothing else.")
    ] = None,
    notebook: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Run the driver's notebook on TRACE, or that for many traces (.ipynb)."
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option("--device", "-d", metavar="DEVICE", help="Show only this device; may be repeated."),
    ] = None,
    queue: Annotated[
        list[int] | None,
        typer.Option("--queue", "-q", metavar="NUMBER", help="Show only this queue; may be repeated."),
    ] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help=_FROM_HELP)] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Show only what begins before that.")
    ] = None,
    min_duration: Annotated[
        float, typer.Option(metavar="SECONDS", help="Show only stalls that are so long.", min=0.0)
    ] = 0.0,
    everything: Annotated[bool, typer.Option("--all", help="List all stalls, not the longest only.")] = False,
    silence_over: completion.SilenceOver = None,
    brief_under: completion.BriefUnder = None,
    fail_over: Annotated[
        int | None,
        typer.Option(
            metavar="TIME",
            parser=completion.nanoseconds,
            help="Exit with 4 if a stall that is shown is longer, such as 1s.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Show when a queue could not receive, and why.

    Stalls, their causes, and what their time went into; if asked for, with tables, plots and a report.

    A witness.json and a phases.json beside a trace that is the only one in its directory are used.

    What -d, -q, --from, --to and --min-duration leave out is nowhere: not in text, JSON, tables, plots or
    report. Each but the tables says so. A stall that overlaps the time is shown whole.

    Exits with 3 if a trace is cut off or damaged; what can be read is analyzed nevertheless.
    With --fail-over, exits with 4 if a stall is longer; with 3 if events were dropped or no packet came,
    so that it is not known.

    Example: toolkit analyze before.rxt -d eth1 --from 10 --to 20 -o before --html before.html
    """
    import toolkit
    from toolkit import report
    from toolkit.report.text import LISTED
    from toolkit.runs import TraceSet, find_traces
    from toolkit.stalls.selection import EVERYTHING, Selection
    from toolkit.stalls.thresholds import DEFAULT, choose

    if not min_duration < _LONGEST:
        raise UserError("--min-duration is a number of seconds.")
    selection = Selection(device or (), queue or (), _moment(since), _moment(until), min_duration)
    if notebook and selection != EVERYTHING:
        raise UserError("--notebook shows the whole trace: leave out what shows a part of it.")
    thresholds = choose(silence_over, brief_under)
    if notebook and thresholds != DEFAULT:
        raise UserError("--notebook has the default thresholds: leave out --silence-over and --brief-under.")
    rows = None if everything else LISTED
    traces = [trace for path in traces for trace in find_traces(path)]
    if len(traces) > 1 and (witness or phases or html):
        raise UserError("--witness, --phases and --html go with one trace.")
    folders = _folders(traces, output)
    opened = TraceSet([toolkit.read(trace, witness, phases, selection, thresholds) for trace in traces])
    tables = _files(output, folders)
    refuse_inputs([html, notebook, *tables], [file for trace in opened for file in trace.files])
    for file in (html, notebook):
        if file and file.exists() and not force:
            raise already_there(file)
    if notebook:
        need("notebook", "jupytext", "nbclient", "ipykernel", *(["fsspec"] if len(opened) > 1 else []))
    if output and not force:
        refuse_existing(tables)
    for trace, folder in zip(opened, folders, strict=True):
        if len(opened) > 1 and not as_json:
            print(printable(f"{trace.path}:"))
        _analyze(trace, folder, as_json=as_json, rows=rows)
    if as_json:
        # Traces in several directories may have the same name.
        several = [{"path": str(trace.path), **trace.summary} for trace in opened]
        print(json.dumps(several if len(opened) > 1 else opened[0].summary, indent=1))
    if output and len(opened) > 1:
        report.save("several", opened, output)
    if html:
        from toolkit.report import trace_page

        with create(html, force=force) as page:
            trace_page.render(opened[0], page, rows=rows)
    sys.stdout.flush()
    if notebook:
        _run_notebook(opened, notebook, force=force)
    if fail_over is not None:
        _limit(opened, fail_over)
    if damage := [trace.damage for trace in opened if trace.damage]:
        raise UserError(" ".join(damage), exit_code=3)


def _limit(traces: Sequence[Trace], limit: int) -> None:
    """Make sure that no stall is longer than the limit [ns]; reconfigurations do not count.

    :raises UserError: with exit code 4 if a stall is longer, with 3 if that is not known.
    """
    from toolkit.report.text import doubt
    from toolkit.stalls.classes import RECONFIGURATION

    doubts = []
    for trace in traces:
        stalls = trace.stalls[trace.stalls["class"] != RECONFIGURATION]
        longest = int(stalls["duration_ns"].max()) if len(stalls) else 0
        if longest > limit:
            raise UserError(
                f"{trace.path}: a stall of {longest / 1e9:g} s is longer than {limit / 1e9:g} s.", exit_code=4
            )
        # A damaged trace is reported by the caller.
        if (why := doubt(trace.analysis)) and not trace.damage:
            doubts.append(
                f"{trace.path}: whether a stall was longer than {limit / 1e9:g} s is not known: {why}."
            )
    if doubts:
        raise UserError(" ".join(doubts), exit_code=3)


def _folders(traces: list[Path], output: Path | None) -> list[Path | None]:
    """Return where the files of each trace go: a directory of its name, or of its path if names repeat."""
    if output is None or len(traces) == 1:
        return [output] * len(traces)
    paths = [trace.resolve() for trace in traces]
    if len(set(paths)) < len(paths):
        raise UserError("a trace is given twice.")
    common = Path(os.path.commonpath([path.parent for path in paths]))
    below = [path.relative_to(common) for path in paths]
    choices: list[list[Path]] = [
        [Path(trace.stem) for trace in traces],
        [path.with_suffix("") for path in below],
        below,
    ]
    names = next(names for names in choices if len(set(names)) == len(names))
    return [output / name for name in names]


def _files(output: Path | None, folders: Sequence[Path | None]) -> list[Path]:
    """Return the files that are written below the directory asked for.

    :param folders: the directory of each trace.
    """
    from toolkit import report

    if output is None:
        return []
    several = report.files("several", output) if len(folders) > 1 else []
    return several + [file for folder in folders if folder for file in report.files("analyze", folder)]


def _moment(text: str | None) -> float | datetime | None:
    """Return a time of the command line: seconds, or a wall-clock time, in UTC if it names no zone.

    :raises UserError: if the text is neither.
    """
    if text is None:
        return None
    with suppress(ValueError):
        if math.isfinite(seconds := float(text)) and abs(seconds) < _LONGEST:
            return seconds
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(
            f"{text!r} is no time: give seconds since the trace began, such as 3.5, or a time such as "
            "2026-01-31T12:00:00 (UTC)."
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _analyze(trace: Trace, folder: Path | None, *, as_json: bool, rows: int | None) -> None:
    """Print and write the results of one trace."""
    from toolkit import report
    from toolkit.report import text

    # Before the directory is made: the analysis finds out whether it is a trace.
    _ = trace.summary
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        report.save("analyze", trace, folder)
    if not as_json:
        text.render(trace, sys.stdout, rows=rows)


def _run_notebook(traces: Sequence[Trace], file: Path, *, force: bool) -> None:
    """Run the notebook of the traces and write it; a notebook that fails replaces no file."""
    from toolkit.report import notebook

    executed = io.BytesIO()
    notebook.render(traces, executed)
    with create(file, force=force) as opened:
        opened.write(executed.getvalue())
