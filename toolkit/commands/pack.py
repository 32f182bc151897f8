# SPDX-License-Identifier: GPL-2.0-only
"""`toolkit pack`: a smaller file of a trace that is kept."""

from pathlib import Path
from typing import Annotated

import typer

from toolkit.errors import UserError, already_there
from toolkit.outputs import refuse_inputs


def pack(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="A trace file of `toolkit trace`.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="ARCHIVE", help="The file to make.")],
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Make an archive of a trace: the same events in a smaller file.

    An archive is a trace: every command reads it, and finds in it what it finds in TRACE.

    Exits with 3 if the trace is cut off or damaged; the events before that are packed nevertheless.

    Example: toolkit pack before.rxt -o before-packed.rxt
    """
    from toolkit.trace.archive import pack
    from toolkit.trace.reader import TraceReader

    refuse_inputs([output], [trace])
    if output.exists() and not force:
        raise already_there(output)
    reader = TraceReader(trace)
    pack(reader, output, force=force)
    before, after = (file.stat().st_size for file in (trace, output))
    print(f"{output}: {after / 1e6:.1f} MB, {100 * after / before:.0f} % of {before / 1e6:.1f} MB")
    if reader.damage:
        raise UserError(reader.damage, exit_code=3)
