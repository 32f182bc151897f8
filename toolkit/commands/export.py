# SPDX-License-Identifier: GPL-2.0-only
"""`toolkit export`: the events of a trace for other tools."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from toolkit.errors import UserError


class Format(StrEnum):
    """What other tools read."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


def export(
    trace: Annotated[Path, typer.Argument(help="A trace file of `toolkit trace`.")],
    kind: Annotated[Format, typer.Option("--format", help="Format to write.")] = Format.CSV,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="[default: standard output]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write every event with the names of its kind, flags, device and driver.

    Exits with 3 if the trace is cut off or damaged; the events before that are written nevertheless.

    Example: toolkit export before.rxt --format parquet -o before.parquet
    """
    from toolkit.report import events
    from toolkit.trace.reader import TraceReader

    if output is None and kind is Format.PARQUET:
        raise UserError("a Parquet file needs a name: give -o FILE.")
    reader = TraceReader(trace)
    if output is None:
        events.export(reader, kind.value, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    else:
        try:
            with output.open("wb" if force else "xb") as file:
                events.export(reader, kind.value, file)
        except FileExistsError:
            raise UserError(f"{output} exists; give another name, or --force to replace it.") from None
    if reader.damage:
        raise UserError(reader.damage, exit_code=3)
