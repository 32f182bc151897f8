# SPDX-License-Identifier: GPL-2.0-only
"""`toolkit watch`: the receive queues of this machine, or of another one, as they are now."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit import completion
from toolkit.commands.record import DIRECTORY

if TYPE_CHECKING:
    from toolkit.capture.drain import Progress
    from toolkit.capture.start import Options
    from toolkit.live.queues import Live
    from toolkit.live.recent import Recent
    from toolkit.live.screen import Screen
    from toolkit.trace.reader import TraceReader

_SSH = "ssh://"


def watch(
    driver: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DRIVER|ssh://HOST",
            help="Drivers to watch [default: those of the devices, or all that are loaded]; or "
            "ssh://[USER@]HOST[:PORT][/DIR]: the recorder of another machine",
            autocompletion=completion.drivers,
        ),
    ] = None,
    device: completion.Device = None,
    recorder: Annotated[
        bool,
        typer.Option("--recorder", help="Show what the recorder of --directory sees; load no probes."),
    ] = False,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory",
            "-o",
            metavar="DIR",
            help=f"Where that recorder puts its traces. [default: {DIRECTORY}]",
        ),
    ] = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="With --recorder: write its events to standard output, for a screen on another machine.",
        ),
    ] = False,
) -> None:
    """Show the queues and their stalls, as they happen.

    Posted buffers, packets, failed refills and silences of each, and what happened when. Needs root, the
    distribution's bcc, and a terminal. Keys: f shows only what contains a text, space pauses
    the screen, s saves the last minute as a trace in the current directory, q quits. A stall that began
    before that minute is not in what is saved.

    With --recorder, the screen shows what a running `toolkit record` writes to its disk, from the beginning
    of the newest segment on. That needs no bcc, and no root if its files may be read. With ssh://HOST it
    shows the recorder of another machine, where the toolkit is installed, too.

    Example: sudo toolkit watch virtio_net
    """
    from toolkit.errors import UserError
    from toolkit.extras import need

    names, devices = driver or [], device or []
    addresses = [name for name in names if name.startswith(_SSH)]
    if addresses and (len(names) > 1 or recorder or directory):
        raise UserError(f"{addresses[0]} names a recorder: give no driver, other recorder or --directory.")
    if (directory or stream) and not recorder:
        raise UserError(f"{'--directory' if directory else '--stream'} is about a recorder: add --recorder.")
    if (addresses or recorder) and (devices or (names and not addresses)):
        raise UserError(
            "a recorder has its own drivers and devices: leave them out, or leave out --recorder."
        )
    if stream:
        _stream(directory or DIRECTORY)
        return
    need("watch", "textual")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError("watch needs a terminal; `toolkit trace` does not.")
    if addresses or recorder:
        _watch_recorder(directory or DIRECTORY, addresses[0] if addresses else None)
        return
    from toolkit.capture.kernel import require_root
    from toolkit.capture.start import Options, drivers_to_trace

    require_root()
    _watch(Options(drivers=drivers_to_trace(names, devices), devices=devices))


def _stream(directory: Path) -> None:
    """Write to standard output what a recorder writes."""
    from toolkit.errors import UserError
    from toolkit.live.remote import send

    if sys.stdout.isatty():
        raise UserError("--stream is for a program that reads it; on a terminal leave it out.")
    send(directory, sys.stdout.fileno())


def _watch(options: Options) -> None:
    """Trace, and show the trace."""
    from toolkit.capture import session, start
    from toolkit.live.queues import Live
    from toolkit.live.screen import Screen

    def trace(sink: Callable[..., Recent], begin: Callable[..., None], stop: threading.Event) -> None:
        started = start.begin(options)
        live = Live(options.drivers, started.devices)

        def ready(progress: Progress) -> None:
            begin(progress, live, partial(Screen, options.drivers, progress, live))

        session.run(started, sink, live.take, lambda _: None, ready, stop)

    names = ", ".join(driver.name for driver in options.drivers)
    _show(f"loading the probes of {names} ...", trace, stays=False)


def _watch_recorder(directory: Path, address: str | None) -> None:
    """Show what a recorder sees, and go on showing it when the recorder has ended.

    :param address: of another machine's, instead of the one of the directory.
    """
    from toolkit.errors import UserError
    from toolkit.live import following, remote
    from toolkit.live.screen import Screen

    where = remote.parse(address, directory) if address else None

    def readers(stop: threading.Event) -> Iterator[TraceReader]:
        if where:
            return remote.receive(where, lambda: not stop.is_set())
        return (each for each, _ in following.follow(directory, lambda: not stop.wait(following.WAIT_S)))

    def trace(sink: Callable[..., Recent], begin: Callable[..., None], stop: threading.Event) -> None:
        failed: list[str] = []

        def ready(view: following.View) -> None:
            def remark() -> str:
                words = [f"recorder of {address or directory}", "; ".join(view.remarks())]
                return failed[0] if failed else ": ".join(filter(None, words))

            screen = partial(Screen, view.drivers, view.progress, view.live, now=view.now, remark=remark)
            begin(view.progress, view.live, screen)

        try:
            following.feed(readers(stop), sink, ready)
        except UserError as error:
            failed.append(str(error))
            raise

    _show(f"looking for the recorder of {address or directory} ...", trace, stays=True)


def _show(
    words: str,
    trace: Callable[[Callable[..., Recent], Callable[..., None], threading.Event], None],
    *,
    stays: bool,
) -> None:
    """Let a trace run in a thread of its own, while the screen shows it.

    :param words: are said before the screen is there.
    :param trace: is given what makes the sink of its batches, what takes its progress, its queues and how to
        make a screen of them, and what ends it.
    :param stays: whether the screen is there until somebody quits; if not, it ends with the trace.
    """
    from toolkit.live.recent import Recent
    from toolkit.live.screen import LINES, Line, failures

    told: deque[Line] = deque(maxlen=LINES)
    running: list[tuple[Progress, Live, Callable[..., Screen]]] = []
    errors: list[Exception] = []
    ready, stop = threading.Event(), threading.Event()
    kept: list[Recent] = []

    def sink(meta: dict[str, Any], clocks: Callable[[int], dict[str, int]] | None = None) -> Recent:
        flags = meta.get("gfp_flags", {})
        kept[:] = [Recent(meta, lambda events: told.extend(failures(events, flags)), clocks=clocks)]
        return kept[0]

    def begin(progress: Progress, live: Live, screen: Callable[..., Screen]) -> None:
        running.append((progress, live, screen))
        ready.set()

    def run() -> None:
        try:
            trace(sink, begin, stop)
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

    print(words, file=sys.stderr, flush=True)
    thread = threading.Thread(target=run, name="rxt-watch")
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    thread.start()
    ready.wait()
    if running and not stop.is_set():
        _, _, screen = running[0]
        screen(lines, save, (lambda: not stop.is_set()) if stays else thread.is_alive).run(mouse=False)
    stop.set()
    thread.join()
    if errors:
        raise errors[0]
    for progress, live, _ in running:
        print(
            f"{progress.events:,} events, {live.stalls} stalls, {live.silences} silences, "
            f"{progress.dropped} dropped."
        )
