# SPDX-License-Identifier: GPL-2.0-only
"""`toolkit export`: the events of a trace for other tools."""

import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from toolkit.errors import UserError, already_there
from toolkit.outputs import refuse_inputs

BESIDE = ("witness.json", "phases.json")
"""Files beside a trace that may belong to it."""


class Format(StrEnum):
    """Formats that other tools read."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


def export(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="A trace file of `toolkit trace`.")],
    kind: Annotated[
        Format | None,
        typer.Option("--format", metavar="csv|jsonl|parquet", help="Format to write [default: csv]"),
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
    if witness and not perfetto:
        raise UserError("--witness goes with --perfetto: the other formats have only the events.")
    if output is None and (perfetto or kind is Format.PARQUET):
        raise UserError(f"a {'Perfetto' if perfetto else 'Parquet'} file needs a name: give -o FILE.")
    beside = filter(Path.is_file, (trace.parent / name for name in BESIDE))
    refuse_inputs([output], [trace, witness, *beside])
    write = _perfetto(trace, witness) if perfetto else _events(trace, kind or Format.CSV)
    if output is None:
        damage = write(sys.stdout.buffer)
        sys.stdout.buffer.flush()
    else:
        try:
            with output.open("wb" if force else "xb") as file:
                damage = write(file)
        except FileExistsError:
            raise already_there(output) from None
    if damage:
        raise UserError(damage, exit_code=3)


def _events(trace: Path, kind: Format) -> Callable[[BinaryIO], str | None]:
    """Return a function that writes the events to a file and returns the damage of the trace."""
    from toolkit.report import events
    from toolkit.trace.reader import TraceReader

    reader = TraceReader(trace)

    def write(file: BinaryIO) -> str | None:
        events.export(reader, kind.value, file)
        return reader.damage

    return write


def _perfetto(trace: Path, witness: Path | None) -> Callable[[BinaryIO], str | None]:
    """Return a function that writes the trace for the Perfetto UI and returns the damage of the trace."""
    from toolkit.extras import need

    need("perfetto", "perfetto")

    import toolkit
    from toolkit.report import perfetto

    opened = toolkit.read(trace, witness)
    damage = opened.damage

    def write(file: BinaryIO) -> str | None:
        perfetto.save(opened, file)
        return damage

    return write
