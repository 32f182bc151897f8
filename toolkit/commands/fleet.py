# SPDX-License-Identifier: GPL-2.0-only
"""`toolkit fleet`: what thousands of traces show, kept as a dataset."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit import completion
from toolkit.english import count
from toolkit.errors import UserError, already_there

if TYPE_CHECKING:
    from toolkit.fleet.run import Progress
    from toolkit.stalls.thresholds import Thresholds

LINES_SECONDS = 10
"""So often a line says how far it is, where there is no terminal."""


def fleet(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The dataset, made or brought up to date.")
    ],
    source: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="A trace, a directory that is searched for *.rxt, also below, or a glob; here or as a URL "
            "(s3://, gs://). Without any, the dataset is shown as it is.",
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Work on the Dask cluster whose scheduler is there, such as tcp://HOST:8786 [default: "
            "processes on this machine]",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", help="Processes on this machine [default: one for each CPU]", min=1),
    ] = None,
    host_from: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="Take the name of a host that its trace does not say from the trace's path: a regular "
            "expression with a group (?P<host>...).",
        ),
    ] = None,
    silence_over: completion.SilenceOver = None,
    brief_under: completion.BriefUnder = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the findings as one page that needs nothing else."),
    ] = None,
    before: Annotated[
        str | None,
        typer.Option(
            metavar="CONDITIONS",
            help="Compare traces before a rollout, such as 'kernel=6.1.*' or 'day<2026-11-08 build=stock' …",
        ),
    ] = None,
    after: Annotated[
        str | None,
        typer.Option(metavar="CONDITIONS", help="… with traces after it, such as 'kernel=6.12.*'."),
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(
            metavar="SQL", help="Ask the dataset by DuckDB: tables traces, stalls, silences and queues."
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print what was done as JSON; without SOURCE what was found, or the query's rows."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE.")] = False,
) -> None:
    """Analyze thousands of traces, keep the results as a dataset, and say which hosts are silent.

    Hosts, devices, kernels, drivers and builds: how long, in what state, for what cause; by day, the
    outliers, and before and after a rollout.

    The tables of DIR are Parquet: traces, stalls, silences and queues, for polars, DuckDB or Spark.

    What was analyzed before is not done again, unless the trace or the toolkit has changed. A trace that is
    damaged, of a newer format or cannot be read has a row with the reason.

    Exits with 130 at Ctrl-C; what was finished until then is kept, and the same command goes on.

    Example: toolkit fleet s3://bucket/rx-stall -o fleet --html fleet.html
    """
    from toolkit.stalls.thresholds import choose

    if query is not None and (html or before or after):
        raise UserError("--query prints its rows only: leave out --html, --before and --after.")
    if (before is None) != (after is None):
        raise UserError("--before and --after go together.")
    if html and html.exists() and not force:
        raise already_there(html)
    thresholds = choose(silence_over, brief_under)
    if source:
        _update(output, source, scheduler, workers, host_from, thresholds, as_json=as_json)
    elif scheduler or workers or host_from:
        raise UserError("--scheduler, --workers and --host-from go with a SOURCE.")
    elif silence_over is not None or brief_under is not None:
        raise UserError("--silence-over and --brief-under go with a SOURCE: they are of the analysis.")
    if query is not None:
        _ask(output, query, as_json=as_json)
    elif html or before or not (source and as_json):
        _show(output, before, after, html, force=force, as_json=as_json and not source)


def _update(
    output: Path,
    source: list[str],
    scheduler: str | None,
    workers: int | None,
    host_from: str | None,
    thresholds: Thresholds,
    *,
    as_json: bool,
) -> None:
    """Bring the dataset up to date, and say what was done."""
    from toolkit.extras import need

    need("fleet", "dask", "distributed", "fsspec", "cryptography")
    if scheduler and workers:
        raise UserError("--workers is for processes on this machine: leave it out with --scheduler.")
    from toolkit.fleet import run
    from toolkit.stalls.thresholds import member

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _shown() as show:
        done = run.update(output, source, scheduler, workers, host_from, thresholds, show)
    if as_json:
        print(json.dumps(_summary(output, done) | member(thresholds), indent=1))
    else:
        print(_sentence(output, done))
    if done.interrupted:
        raise UserError("interrupted; run the same command again to go on.", exit_code=130)


def _ask(output: Path, sql: str, *, as_json: bool) -> None:
    """Print the rows of a query."""
    from toolkit.fleet.query import query
    from toolkit.stalls.analysis import records

    found = query(output, sql)
    if as_json:
        print(json.dumps(records(found), indent=1, default=str))
    else:
        print(found.to_string(index=False, na_rep="null") if len(found) else "no row")


def _show(
    output: Path, before: str | None, after: str | None, html: Path | None, *, force: bool, as_json: bool
) -> None:
    """Print the findings of the dataset, and write the page."""
    from toolkit.fleet.overview import look, summary
    from toolkit.report import fleet, fleet_page

    found = look(output, before, after)
    if html:
        fleet_page.save(found, html, force=force)
    if as_json:
        print(json.dumps(summary(found), indent=1, allow_nan=False))
    else:
        fleet.render(found, sys.stdout)


def _summary(output: Path, done: Progress) -> dict[str, Any]:
    """Return the JSON object of a run (docs/fleet.md)."""
    return {
        "dataset": str(output),
        "traces": done.found,
        "unchanged": done.unchanged,
        "analyzed": done.analyzed.total(),
        "status": dict(done.analyzed),
        "interrupted": done.interrupted,
    }


def _sentence(output: Path, done: Progress) -> str:
    """Say what a run has done."""
    parts = [f"{done.analyzed.total():,} analyzed{_odd(done)}"]
    if done.unchanged:
        parts.append(f"{done.unchanged:,} unchanged")
    if left := done.found - done.unchanged - done.analyzed.total():
        parts.append(f"{left:,} left")
    return f"{output}: {count(done.found, 'trace')}: {', '.join(parts)}."


def _odd(done: Progress) -> str:
    """Say how many of the traces that were analyzed are not whole."""
    odd = [f"{number:,} {status}" for status, number in done.analyzed.most_common() if status != "whole"]
    return f" ({', '.join(odd)})" if odd else ""


@contextmanager
def _shown() -> Iterator[Callable[[Progress], None]]:
    """Give a function that shows the progress: as a bar on a terminal, else a line now and then."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("listing the traces", total=None)

        def show(progress: Progress) -> None:
            words = "waiting for workers" if progress.waiting else f"analyzed{_odd(progress)}"
            new = progress.found - progress.unchanged
            bar.update(task, description=words, total=new, completed=progress.analyzed.total())

        yield show


def _lines() -> Callable[[Progress], None]:
    """Return a function that prints a line at the beginning, and one now and then."""
    began = said = 0.0

    def show(progress: Progress) -> None:
        nonlocal began, said
        now = time.monotonic()
        new, done = progress.found - progress.unchanged, progress.analyzed.total()
        if not began:
            began = said = now
            print(f"{count(progress.found, 'trace')}, {new:,} to analyze", file=sys.stderr, flush=True)
        elif progress.waiting:
            print("waiting for workers", file=sys.stderr, flush=True)
        elif done and now - said >= LINES_SECONDS:
            said = now
            left = (now - began) / done * (new - done)
            words = f"{done:,} of {new:,}{_odd(progress)}, {left:.0f} s left"
            print(words, file=sys.stderr, flush=True)

    return show
