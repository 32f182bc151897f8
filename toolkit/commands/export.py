# SPDX-License-Identifier: GPL-2.0-only
"""`toolkit export`: the events of a trace for other tools."""

import sys
from pathlib import Path
from typing import Annotated, cast

import typer

from toolkit import report
from toolkit.errors import UserError
from toolkit.outputs import create, refuse_inputs

BESIDE = ("witness.json", "phases.json")
"""Files beside a trace that may belong to it."""


FORMATS = report.names("export")


def _beginning(incomplete: str) -> list[str]:
    """Return the formats that begin so, for the shell."""
    return [name for name in FORMATS if name.startswith(incomplete)]


def _known(kind: str | None) -> str | None:
    """Make sure that a format is one of FORMATS."""
    if kind is not None and kind not in FORMATS:
        raise typer.BadParameter(f"{kind!r} is not one of {', '.join(map(repr, FORMATS))}.")
    return kind


def export(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="A trace file of `toolkit trace`.")],
    kind: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="|".join(FORMATS),
            help="Format to write [default: csv]",
            callback=_known,
            autocompletion=_beginning,
        ),
    ] = None,
    perfetto: Annotated[
        bool, typer.Option("--perfetto", help="Write stalls, queues and threads for the Perfetto UI.")
    ] = False,
    witness: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON of a frame sender, for a track of its own with --perfetto."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="[default: standard output]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write the events of a trace for other tools.

    Each with the names of its kind, device and driver, and null where nobody looked; or all as a trace for
    the Perfetto UI. A witness.json beside a trace that is the only one in its directory is used there.

    Exits with 3 if the trace is cut off or damaged; the events before that are written nevertheless.

    Example: toolkit export before.rxt --format parquet -o before.parquet
    """
    if perfetto and kind:
        raise UserError("--perfetto is a format of its own: leave --format out.")
    name = "perfetto" if perfetto else kind or "csv"
    if witness and name != "perfetto":
        raise UserError("--witness goes with --perfetto: the other formats have only the events.")
    format_ = cast(report.Format, report.load("export", name))
    if output is None and not format_.IS_TEXT:
        raise UserError(f"a {name.capitalize()} file needs a name: give -o FILE.")
    beside = filter(Path.is_file, (trace.parent / name for name in BESIDE))
    refuse_inputs([output], [trace, witness, *beside])

    import toolkit

    opened = toolkit.read(trace, witness)
    if output is None:
        format_.render(opened, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    else:
        with create(output, force=force) as file:
            format_.render(opened, file)
    if opened.damage:
        raise UserError(opened.damage, exit_code=3)
