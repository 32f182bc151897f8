# SPDX-License-Identifier: GPL-2.0-only
"""`toolkit watch`: the receive queues of this machine, as they are now."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit import completion

if TYPE_CHECKING:
    from toolkit.capture.drain import Progress
    from toolkit.capture.start import Options
    from toolkit.live.recent import Recent


def watch(
    driver: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DRIVER",
            help="Drivers to watch [default: those of the devices, or all that are loaded]",
            autocompletion=completion.drivers,
        ),
    ] = None,
    device: completion.Device = None,
) -> None:
    """Show the queues and their stalls, as they happen.

    Posted buffers, packets, failed refills and silences of each, and what happened when. Needs root, the
    distribution's bcc, and a terminal. Keys: f shows only what contains a text, space pauses
    the screen, s saves the last minute as a trace in the current directory, q quits. A stall that began
    before that minute is not in what is saved.

    Example: sudo toolkit watch virtio_net
    """
    from toolkit.capture.kernel import require_root
    from toolkit.capture.start import Options, drivers_to_trace
    from toolkit.errors import UserError
    from toolkit.extras import need

    need("watch", "textual")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError("watch needs a terminal; `toolkit trace` does not.")
    require_root()
    devices = device or []
    _watch(Options(drivers=drivers_to_trace(driver or [], devices), devices=devices))


def _watch(options: Options) -> None:
    """Trace in a thread of its own, while the screen shows the trace."""
    from toolkit.capture import session, start
    from toolkit.live.queues import Live
    from toolkit.live.recent import Recent
    from toolkit.live.screen import LINES, Line, Screen, failures

    told: deque[Line] = deque(maxlen=LINES)
    running: list[tuple[Progress, Live]] = []
    errors: list[Exception] = []
    ready, stop = threading.Event(), threading.Event()
    kept: list[Recent] = []

    def sink(meta: dict[str, Any]) -> Recent:
        kept.append(Recent(meta, lambda events: told.extend(failures(events, meta["gfp_flags"]))))
        return kept[0]

    def record() -> None:
        try:
            started = start.begin(options)
            live = Live(options.drivers, started.devices)

            def begin(progress: Progress) -> None:
                running.append((progress, live))
                ready.set()

            session.run(started, sink, live.take, lambda _: None, begin, stop)
        except Exception as error:
            errors.append(error)
        finally:
            ready.set()

    def lines() -> list[Line]:
        return [told.popleft() for _ in range(len(told))]

    def save() -> Path:
        path = Path(time.strftime("watch-%Y%m%d-%H%M%S.rxt"))
        kept[0].save(path)
        return path

    names = ", ".join(driver.name for driver in options.drivers)
    print(f"loading the probes of {names} ...", file=sys.stderr, flush=True)
    thread = threading.Thread(target=record, name="rxt-watch")
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    thread.start()
    ready.wait()
    if running and not stop.is_set():
        Screen(options.drivers, *running[0], lines, save, thread.is_alive).run(mouse=False)
    stop.set()
    thread.join()
    if errors:
        raise errors[0]
    for progress, live in running:
        print(
            f"{progress.events:,} events, {live.stalls} stalls, {live.silences} silences, "
            f"{progress.dropped} dropped."
        )
