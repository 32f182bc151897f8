# SPDX-License-Identifier: GPL-2.0-only
"""`toolkit info`: what a trace is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.english import count, cpus
from toolkit.errors import UserError


def info(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="A trace file of `toolkit trace`.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a trace is, without analyzing it.

    From which kernel, driver and devices, when and for how long, how many events, and whether it is whole.

    Exits with 3 if the trace is cut off or damaged.

    Example: toolkit info before.rxt
    """
    from toolkit.trace.description import describe
    from toolkit.trace.reader import TraceReader

    found = describe(TraceReader(trace))
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        for line in _lines(found):
            print(line)
    if found["damage"]:
        raise UserError(found["damage"], exit_code=3)


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is known of the trace, line by line."""
    began = datetime.fromtimestamp(found["realtime_ns"] / 1e9, UTC)
    yield f"Recorded: {began:%Y-%m-%d %H:%M:%S} UTC, for {found['duration_ns'] / 1e9:.3f} s"
    whole = f"yes; ended by: {found['reason']}" if found["complete"] else "no"
    yield f"Whole: {whole}"
    if found["host"]:
        yield f"Host: {found['host']}"
    yield f"Kernel: {found['kernel']}, {found['arch']}, {cpus(found['cpus'])}"
    for driver in found["drivers"]:
        source = f", srcversion {driver['srcversion']}" if driver["srcversion"] else ""
        yield f"Driver: {driver['name']}, {driver['variant'] or 'unknown variant'}{source}"
        yield f"Regime: {driver['regime'] or 'unknown'}"
    for device in found["devices"]:
        yield f"Device: {device['name']} ({device['driver']}), {count(device['queues'], 'queue')}"
    ledger = "{attempted:,} attempted, {delivered:,} delivered, {dropped:,} dropped".format(**found["ledger"])
    yield f"Events: {found['events']:,} ({ledger}), detail {found['detail']}"
    yield f"Format: {found['format']}, by toolkit {found['toolkit']}"
