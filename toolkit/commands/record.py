# SPDX-License-Identifier: GPL-2.0-only
"""`toolkit record`: a trace that is left running, and keeps what is worth keeping."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit import completion
from toolkit.quantities import Amount

if TYPE_CHECKING:
    from toolkit.capture.drain import Progress, Sink
    from toolkit.capture.start import Options
    from toolkit.live.prometheus import Health
    from toolkit.live.recorder import Rules
    from toolkit.live.segments import Room, Segments

DIRECTORY = Path("/var/lib/rx-stall")
"""Where a recorder puts traces aside, unless it is told."""

METRICS_S = 5.0
"""How often the file of counters is written [s]: who reads it does so less often."""

_KEPT = Amount(ns=600 * 10**9, bytes=None)


def _configured(context: typer.Context, config: Path | None) -> Path | None:
    """Take what a file has for options as their defaults."""
    from toolkit.live import configuration

    if config:
        repeated = {
            parameter.name: parameter.nargs == -1 or bool(getattr(parameter, "multiple", False))
            for parameter in context.command.params
            if parameter.name and parameter.name not in ("config", "check_config", "save", "help")
        }
        context.default_map = configuration.read(config, repeated)
    return config


def _time(said: str) -> Any:
    """Return an option that is a time [ns]."""
    return typer.Option(metavar="TIME", parser=completion.nanoseconds, help=said)


def record(
    driver: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DRIVER",
            help="Drivers to trace [default: those of the devices, or all that are loaded; a NIC of no such "
            "driver is traced by what its polls tell]",
            autocompletion=completion.drivers,
        ),
    ] = None,
    device: completion.Device = None,
    directory: Annotated[
        Path, typer.Option("--directory", "-o", metavar="DIR", help="Where traces are put aside.")
    ] = DIRECTORY,
    when: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Put a trace aside when this holds: 'stall > 1s', 'silence > 100ms', 'failed > 100/s', "
            "'dropped > 0'; may be repeated. [default: stall > 1s]",
        ),
    ] = None,
    before: Annotated[int, _time("So much before the event is put aside.")] = "1m",  # type: ignore[assignment]
    memory: Annotated[
        int,
        typer.Option(
            metavar="SIZE", parser=completion.size, help="Memory for that, at most: then less is kept."
        ),
    ] = "64M",  # type: ignore[assignment]
    after: Annotated[int, _time("So much after the event, too.")] = "10s",  # type: ignore[assignment]
    keep: Annotated[
        list[Amount] | None,
        typer.Option(
            metavar="TIME|SIZE",
            parser=completion.amount,
            help="So much is kept on disk, in DIR/ring, should the machine go down: 10m, 256M, or one --keep "
            "of each; 0: nothing. [default: 10m and 256M, less on a small disk]",
        ),
    ] = None,
    sync: Annotated[
        int, _time("What is older survives a power cut, too; 0: when the kernel writes it, in half a minute.")
    ] = "5s",  # type: ignore[assignment]
    again: Annotated[int, _time("The same condition puts nothing aside for so long afterwards.")] = "5m",  # type: ignore[assignment]
    files: Annotated[
        int, typer.Option(metavar="N", min=1, help="So many traces are kept; the oldest go first.")
    ] = 50,
    size: Annotated[
        int,
        typer.Option(metavar="SIZE", parser=completion.size, help="So much they may take; likewise."),
    ] = "1G",  # type: ignore[assignment]
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            callback=_configured,
            is_eager=True,
            help="Take options from a TOML file, by their long names; those given here go before.",
        ),
    ] = None,
    check_config: Annotated[
        bool, typer.Option("--check-config", help="Check FILE and the other options; start nothing.")
    ] = False,
    save: Annotated[
        bool,
        typer.Option("--save", help="Have the recorder of DIR put aside what it keeps now; start none."),
    ] = False,
    metrics: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep counters of the queues there (.prom), for node_exporter."),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Answer HTTP there with the counters, for Prometheus."),
    ] = None,
) -> None:
    """Trace for weeks, and put aside what happened around a stall.

    The last minute is kept in memory. When a condition holds, the trace goes on for --after, and both become
    a file in DIR. A .json of the same name has the state of the machine at the event and afterwards: memory,
    pressure, the NICs' counters, and the last messages of the kernel.

    The last minutes are also kept in segments in DIR/ring: each is a trace of its own, readable after a
    crash. Those of the recorder before are kept while there is room.

    With --save, or at SIGUSR1, what is in memory is put aside at once. Ends at Ctrl-C, SIGTERM, or when the
    module is unloaded.

    Example: sudo toolkit record -d eth0 --when 'stall > 500ms' --when 'failed > 100/s' -o /var/lib/rx-stall
    """
    from toolkit.capture.kernel import require_root
    from toolkit.capture.start import Options, drivers_to_trace
    from toolkit.commands.trace import refuse_metrics
    from toolkit.extras import need
    from toolkit.live import conditions, recorder

    if save:
        print(recorder.ask(directory))
        return
    rules = recorder.Rules(
        [conditions.parse(text) for text in dict.fromkeys(when or ["stall > 1s"])], after, again, files, size
    )
    address = _address(listen) if listen else None
    if address:
        need("metrics", "prometheus_client")
    if metrics:
        refuse_metrics(metrics, force=False)
    if check_config:
        print(f"{config or 'the command line'}: nothing is wrong.")
        return
    require_root()
    devices = device or []
    options = Options(drivers=drivers_to_trace(driver or [], devices), devices=devices)
    with recorder.only_one(directory):
        room = _room(directory, keep or [], sync / 1e9)
        every = not (driver or devices)
        _record(options, rules, directory, before + after, memory, room, metrics, address, every=every)


def _room(directory: Path, amounts: Sequence[Amount], sync_s: float) -> Room | None:
    """Return how much is kept on disk; None: nothing. Of two times or two sizes the last counts.

    :raises UserError: if the disk has no room for it.
    """
    from toolkit.live import segments

    if any(0 in amount for amount in amounts):
        return None
    ns = [amount.ns for amount in amounts or [_KEPT] if amount.ns is not None]
    size = [amount.bytes for amount in amounts if amount.bytes is not None]
    return segments.make(
        directory / segments.RING, ns[-1] if ns else None, size[-1] if size else None, sync_s
    )


def _address(text: str) -> tuple[str, int]:
    """Read HOST:PORT.

    :raises UserError: if it is none.
    """
    from toolkit.errors import UserError

    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UserError(f"--listen {text}: write HOST:PORT, such as 127.0.0.1:9435.")
    return host.strip("[]"), int(port)


def _record(
    options: Options,
    rules: Rules,
    directory: Path,
    kept_ns: int,
    memory: int,
    room: Room | None,
    metrics: Path | None,
    address: tuple[str, int] | None,
    *,
    every: bool,
) -> None:
    """Trace until a signal comes or the module goes; see `record`.

    :param every: whether NICs that come up later are to be traced, too.
    """
    from toolkit.errors import UserError
    from toolkit.live.recorder import Recorder
    from toolkit.live.service import is_ready, is_starting_again, notify

    again = threading.Event()
    stop, asked = _signals(again)

    from toolkit.capture import session, start
    from toolkit.commands.trace import limits

    _say(f"loading the probes of {', '.join(driver.name for driver in options.drivers)} ...")
    started = start.begin(options)
    from toolkit.live.newcomers import Newcomers
    from toolkit.live.queues import Live
    from toolkit.live.recent import Recent
    from toolkit.live.segments import RING, Segments, take_over
    from toolkit.trace.schema import EVENT

    live = Live(options.drivers, started.devices)
    recorder = Recorder(rules, directory, _say)
    written = -METRICS_S
    kept: list[Recent] = []
    on_disk: list[Segments] = []
    newcomers = Newcomers(options)

    def sink(meta: dict[str, Any]) -> Sink:
        kept.append(Recent(meta, kept_ns=kept_ns, most_events=max(memory // EVENT.itemsize, 1)))
        if room is None:
            return kept[0]
        ring = directory / RING
        old, killed = take_over(ring)
        if killed:
            left = f"its segments are in {ring}" if old else "it has left no segment that can be read"
            _say(f"the recorder before this one did not end by itself; {left}.")
        on_disk.append(Segments(ring, old, room, meta, kept[0], _say))
        return on_disk[0]

    def health() -> Health:
        from toolkit.live.prometheus import Health

        return Health(recorder, on_disk[0] if on_disk else None)

    def ready(progress: Progress) -> None:
        if address:
            _serve(progress, live, address, health())
        if line := limits(progress.devices):
            _say(line)
        names = ", ".join(device["name"] for device in progress.devices) or "no device yet"
        conditions = ", ".join(condition.text for condition in rules.when)
        _say(f"recording {names}; put aside in {directory} when {conditions}.")
        if every:
            newcomers.look(progress.names.values())
        is_ready()

    def look(progress: Progress) -> None:
        nonlocal written
        was_asked = asked.is_set()
        asked.clear()
        recorder.look(progress, live, kept[0], asked=was_asked)
        if metrics and time.monotonic() - written >= METRICS_S:
            written = time.monotonic()
            _write(progress, live, metrics, health())
        notify("WATCHDOG=1")
        if every and (new := newcomers.look(progress.names.values())):
            _say(f"{', '.join(sorted(new))} came up; the recorder starts again, to trace it, too.")
            again.set()
            # A signal goes before: it has set the one, and clears the other from now on.
            if stop.is_set():
                again.clear()
            stop.set()

    progress = session.run(started, sink, live.take, look, ready, stop)
    # systemd would kill a service that says it stops and then goes on.
    if again.is_set():
        is_starting_again()
    else:
        notify("STOPPING=1")
    recorder.put_aside(progress, kept[0])
    if metrics:
        _write(progress, live, metrics, health())
    _say(f"{progress.events:,} events, {live.stalls} stalls begun, {progress.dropped} dropped.")
    if progress.reason == "module unloaded":
        raise UserError("the module that was traced is unloaded; start the recorder again when it is back.")
    if again.is_set():
        # With the same options.
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _signals(again: threading.Event) -> tuple[threading.Event, threading.Event]:
    """Return what a signal sets that ends the recorder, and what SIGUSR1 sets.

    A SIGHUP that is ignored stays so: who starts a recorder with nohup(1) goes away afterwards.

    :param again: is cleared by a signal that ends the recorder.
    """
    stop, asked = threading.Event(), threading.Event()

    def end(*_: object) -> None:
        again.clear()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)
    signal.signal(signal.SIGUSR1, lambda *_: asked.set())
    return stop, asked


def _serve(progress: Progress, live: Any, address: tuple[str, int], health: Health) -> None:
    from toolkit.errors import UserError
    from toolkit.live.prometheus import serve

    host, port = address
    try:
        serve(progress, live, host, port, health)
    except OSError as error:
        raise UserError(f"cannot listen on {host}:{port}: {error.strerror or error}.") from error


def _write(progress: Progress, live: Any, metrics: Path, health: Health) -> None:
    from toolkit.live.prometheus import write

    # Go on with the trace: the age of the file tells that it is not written any more.
    with suppress(OSError):
        write(progress, live, metrics, health)


def _say(line: str) -> None:
    # A log on a full disk, or a pipe that nobody reads any more, is no reason to end.
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)
