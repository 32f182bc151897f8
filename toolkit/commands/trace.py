# SPDX-License-Identifier: GPL-2.0-only
"""`toolkit trace`: record what a driver does with its receive buffers."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from toolkit import completion

if TYPE_CHECKING:
    from toolkit.capture.drain import Progress
    from toolkit.live.queues import Live

FLUSH_S = 5.0
"""How often a batch is written while no refill fails: nobody waits for it, and each batch costs something."""
SHOW_S = 1.0
"""How often the terminal and the counters are brought up to date."""


class Command(TyperCommand):
    """Take the words after `--` for a command to run, as the context's `obj`; None without `--`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.obj = None
        if "--" in args:
            place = args.index("--")
            args, ctx.obj = args[:place], args[place + 1 :]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


def trace(
    context: typer.Context,
    driver: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DRIVER",
            help="Drivers to trace, of those that `toolkit drivers` lists [default: those of the devices, or "
            "all that are loaded; a NIC of no such driver is traced by what its polls tell]",
            autocompletion=completion.drivers,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The file to write [default: DRIVER.rxt, or trace.rxt of several drivers]",
        ),
    ] = None,
    device: completion.Device = None,
    queue: Annotated[
        list[int] | None,
        typer.Option("--queue", "-q", metavar="NUMBER", help="Only this receive queue; may be repeated."),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="End after so many seconds [default: at Ctrl-C]", min=0.0),
    ] = None,
    detail: Annotated[
        str,
        typer.Option(
            metavar="normal|full",
            help="normal: hot events in 10 ms windows; full: every poll and interrupt.",
            autocompletion=completion.details,
        ),
    ] = "normal",
    metrics: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep counters of the queues there (.prom), for node_exporter."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was counted as JSON, when the trace has ended.")
    ] = False,
    ring: Annotated[
        int | None,
        typer.Option(
            metavar="MIB",
            help="Memory for events that the kernel keeps until they are read, rounded up to a power of two "
            "[default: 1/128 of this machine's, 8 to 128]",
            min=1,
            max=1024,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Record how a driver keeps its receive rings filled.

    Refills, allocation failures, NAPI and interrupts, in this machine. Needs root and the distribution's bcc.

    Ends at Ctrl-C, after --duration, or when the module is unloaded. At SIGUSR1 the trace goes on in a
    new file: FILE-2, FILE-3 and so on, each a whole trace.

    With COMMAND, the trace begins, COMMAND is run, and the trace ends when COMMAND does. It runs as the
    user that toolkit runs as: as root with sudo. If the trace ends before, COMMAND gets SIGTERM.

    Exits with the exit status of COMMAND if there is one, with 128 + N if signal N ended it.

    Example: sudo toolkit trace -d eth1 -o before.rxt -- stress-ng --vm 4 --timeout 60
    """
    from toolkit.capture import start
    from toolkit.errors import UserError
    from toolkit.outputs import check_new

    if metrics:
        refuse_metrics(metrics, force=force)
    if detail not in ("normal", "full"):
        raise UserError(f"--detail is normal or full, not {detail!r}.")
    command = context.obj or []
    if context.obj == []:
        raise UserError("-- is followed by nothing: give the command to run, or leave it out.")
    drivers = start.drivers_to_trace(driver or [], device or [])
    path = output or Path(f"{drivers[0].name if len(drivers) == 1 else 'trace'}.rxt")
    check_new(path, force=force)
    options = start.Options(
        drivers=drivers,
        devices=device or [],
        queues=queue or [],
        duration=duration,
        full=detail == "full",
        ring_mib=ring,
        command=command,
        flush=FLUSH_S,
    )
    _say(f"loading the probes of {', '.join(item.name for item in drivers)} ...")
    started = start.begin(options)
    from toolkit.capture import session
    from toolkit.live.queues import Live
    from toolkit.trace.writer import TraceWriter

    parts = _parts(path)
    written: list[Path] = []

    def begin(meta: dict[str, Any]) -> TraceWriter:
        written.append(next(parts))
        if len(written) > 1:
            _say(f"{written[-2]} is ended; the trace goes on in {written[-1]}.")
        return TraceWriter(written[-1], meta, force=force)

    live = Live(drivers, started.devices)
    progress = session.run(
        started,
        begin,
        live.take,
        partial(_show, live, metrics, quiet=bool(command)),
        partial(_ready, live, metrics, command),
        show_interval=SHOW_S,
    )
    if metrics:
        _write(progress, live, metrics)
    if sys.stderr.isatty() and not command:
        print("\r\x1b[K", end="", file=sys.stderr)
    _say(
        f"{path}: {progress.events:,} events, {live.stalls} stalls begun, {live.silences} silences, "
        f"{progress.dropped} dropped; ended by {progress.reason}. "
        f"Next: toolkit analyze {' '.join(map(str, written))}"
    )
    if progress.blind:
        _say(f"warning: stalls were not counted to the end ({progress.blind}); the trace itself is whole.")
    if as_json:
        print(
            json.dumps(_counted(path, progress, live) | {"files": [str(part) for part in written]}, indent=1)
        )
    if progress.status:
        raise typer.Exit(progress.status)


def _parts(path: Path) -> Iterator[Path]:
    """Yield names for the files of a trace: the name asked for, then with -2, -3 and so on, where free."""
    yield path
    for number in count(2):
        part = path.with_stem(f"{path.stem}-{number}")
        if not part.exists():
            yield part


def _counted(path: Path, progress: Progress, live: Live) -> dict[str, object]:
    """Return what was counted while the trace ran, under the names of docs/stalls.md; `analyze` is exact."""
    import time

    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    names = progress.names
    return {
        "trace": str(path),
        "reason": progress.reason,
        "events": progress.events,
        "dropped": progress.dropped,
        "hooks_missing": [
            {"program": entry.hook.program, "missing": entry.hook.missing} for entry in progress.missing
        ],
        "queues": [
            {
                "device": names.get(ifindex, f"if{ifindex}"),
                "queue": number,
                "driver": queue.driver,
                "stalls": queue.stalls,
                "stalled_ns": queue.stalled_ns(now),
                "silent_ns": int(queue.silent.sum()) if live.has_napi(queue.driver) else None,
                "failed": queue.failed,
                "packets": queue.packets,
            }
            for (ifindex, number), queue in live.queues.items()
        ],
    }


def refuse_metrics(file: Path, *, force: bool) -> None:
    """Make sure that counters can be kept in a file.

    :raises UserError: if node_exporter would not read the file, it holds something else, or an extra is
        missing.
    """
    from toolkit.errors import UserError
    from toolkit.extras import need

    need("metrics", "prometheus_client")
    if file.suffix != ".prom":
        raise UserError(f"{file} must end in .prom, or node_exporter does not read it.")
    if not file.parent.is_dir():
        raise UserError(f"there is no directory {file.parent}; make it, or give another name.")
    if file.exists() and not force and not file.read_bytes().startswith(b"# HELP rx_stall_"):
        raise UserError(f"{file} exists and holds something else; give another name, or --force.")


def _write(progress: Progress, live: Live, metrics: Path) -> None:
    from toolkit.live.prometheus import write

    write(progress, live, metrics)


def _ready(live: Live, metrics: Path | None, command: Sequence[str], progress: Progress) -> None:
    if metrics:
        _write(progress, live, metrics)
    for entry in progress.missing:
        _say(
            f"warning: {entry.hook.program} is not attached, "
            f"so this trace lacks {entry.hook.missing}: {entry.why}"
        )
    if line := limits(progress.devices):
        _say(line)
    names = ", ".join(device["name"] for device in progress.devices) or "no device yet"
    until = f"until {shlex.join(command)} ends" if command else "Ctrl-C ends the trace"
    _say(f"tracing {names}; {until}.")


def limits(devices: Sequence[Mapping[str, Any]]) -> str:
    """Say what cannot be told of the devices whose drivers have no probes of their own; "" if all have."""
    from toolkit.drivers import load
    from toolkit.english import listed

    names = [device["name"] for device in devices if load(device["driver"]).of_any]
    if not names:
        return ""
    return (
        f"{listed(names)}: told by polls and failed allocations; what is posted and what each refill did "
        "is not known, since the driver has no probes of its own."
    )


def _show(live: Live, metrics: Path | None, progress: Progress, *, quiet: bool) -> None:
    import time

    if metrics:
        # Go on with the trace: the age of the file tells that it is not written any more.
        with suppress(OSError):
            _write(progress, live, metrics)
    if quiet or not sys.stderr.isatty():
        return
    seconds = time.monotonic() - progress.started
    rate = progress.events / seconds if seconds > 0 else 0.0
    print(
        f"\r\x1b[K{seconds:6.0f} s  {progress.events:,} events ({rate:,.0f}/s)  "
        f"{live.stalls} stalls  {live.silences} silences  {progress.dropped} dropped",
        end="",
        file=sys.stderr,
        flush=True,
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
