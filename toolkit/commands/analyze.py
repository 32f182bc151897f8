# SPDX-License-Identifier: GPL-2.0-only
"""`toolkit analyze`: when and why the queues of a trace could not receive."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.errors import UserError

if TYPE_CHECKING:
    from toolkit.stalls.analysis import Analysis

_DIR_HELP = "Write tables and plots here; for several traces, a table of all and a directory for each."


def analyze(
    traces: Annotated[list[Path], typer.Argument(metavar="TRACE...", help="Trace files of `toolkit trace`.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help=_DIR_HELP)] = None,
    witness: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON of a frame sender: when were frames refused?")
    ] = None,
    phases: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON of a scenario: its phases, for the timeline.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files in DIR.")] = False,
) -> None:
    """Show when a queue could not receive for lack of buffers, why, and what the time went into.

    Exits with 3 if a trace is cut off or damaged; what can be read is analysed nevertheless.

    Example: toolkit analyze before.rxt -o before
    """
    if len(traces) > 1 and (witness or phases):
        raise UserError("--witness and --phases go with one trace.")
    folders = _folders(traces, output)

    from toolkit.report import files

    if output and not force:
        files.refuse_existing(output, folders)
    done = [
        _analyze(trace, folder, witness, phases, as_json=as_json)
        for trace, folder in zip(traces, folders, strict=True)
    ]
    if as_json:
        summaries = [summary for _, summary in done]
        print(json.dumps(summaries if len(done) > 1 else summaries[0], indent=1))
    if output and len(done) > 1:
        files.save_together([analysis for analysis, _ in done], output)
    sys.stdout.flush()
    if damage := [analysis.damage for analysis, _ in done if analysis.damage]:
        raise UserError(" ".join(damage), exit_code=3)


def _folders(traces: list[Path], output: Path | None) -> list[Path | None]:
    """:return: where the files of each trace go."""
    if output is None or len(traces) == 1:
        return [output] * len(traces)
    if len({trace.stem for trace in traces}) < len(traces):
        raise UserError("two traces have the same name; analyse them one by one.")
    return [output / trace.stem for trace in traces]


def _analyze(
    trace: Path, folder: Path | None, witness: Path | None, phases: Path | None, *, as_json: bool
) -> tuple[Analysis, dict[str, Any]]:
    """:return: the analysis of one trace and its summary, printed and written."""
    from toolkit.report import files, text
    from toolkit.stalls.analysis import analyze as run
    from toolkit.stalls.witness import compare, read_phases, read_witness

    known = read_witness(witness) if witness else None
    scenario = read_phases(phases) if phases else None
    analysis, agreement = run(trace), None
    if known:
        analysis, agreement = compare(analysis, known)
    summary = files.summary(analysis, agreement, scenario)
    if folder:
        from toolkit.report import plots

        folder.mkdir(parents=True, exist_ok=True)
        files.save(summary, analysis.stalls, folder)
        plots.save(analysis, folder, known, scenario)
    if not as_json:
        text.render(analysis, agreement, terminal=sys.stdout.isatty())
    return analysis, summary
