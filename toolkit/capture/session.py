# SPDX-License-Identifier: GPL-2.0-only
"""One trace from beginning to end: load, attach, drain, write, detach."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from toolkit.capture import command, kernel, loader, maps, program
from toolkit.capture.drain import FLUSH_INTERVAL, Drain, Progress, Sink
from toolkit.capture.kernel import Functions
from toolkit.capture.start import Options, Start, devices_of
from toolkit.errors import UserError
from toolkit.trace.schema import EVENT, Events
from toolkit.version import __version__

#: How often `show` is called (s), where nobody says otherwise.
SHOW_INTERVAL = 0.5
#: How often it is looked whether the command has ended (s).
CHILD_INTERVAL = 0.1
#: How often the probes look at all queues (s), also at those to which nothing happens.
LOOK_INTERVAL = 1.0

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4  # include/uapi/asm-generic/mman.h


def run(
    start: Start,
    sink: Callable[[dict[str, Any]], Sink],
    observe: Callable[[Events], object],
    show: Callable[[Progress], None],
    ready: Callable[[Progress], None],
    stop: threading.Event | None = None,
    show_interval: float | None = None,
) -> Progress:
    """Record a trace until its time is over, its command ends, a signal comes or the module goes.

    At SIGUSR1 the trace goes on in a new sink: each event is in one of them, and each has a ledger of its
    own.

    :param start: what was found, and the program that is being compiled.
    :param sink: is given the JSON object of a trace, and makes what the batches go to.
    :param observe: is given the events of each batch after they were written.
    :param show: is called about every `show_interval` [s], twice a second by default.
    :param ready: is called once, when everything is attached.
    :param stop: ends the trace, in the place of signals, where this is not the main thread.
    :return: the last progress; its `reason` says why the trace ended.
    :raises UserError: if this kernel or this file does not allow it.
    """
    options, facts, identities, devices = start.options, start.facts, start.identities, start.devices
    bpf, functions = start.program.result()
    _check_layout(bpf)
    maps.set_filters(bpf, start.chosen, options.queues)
    useless = maps.set_rings(bpf, options.drivers)

    progress = Progress(devices=devices)
    asked: SimpleQueue[bool] = SimpleQueue()
    oom_score_adj = command.oom_score_adj()
    with contextlib.ExitStack() as stack:
        stop = stop or stack.enter_context(_signals(asked))
        attached = program.attach(bpf, program.hooks(options.drivers), functions, useless=useless)
        progress.missing = [hook for hook in attached if hook.at is None]

        def begin() -> Sink:
            there = devices_of(options)
            numbers = {device["ifindex"] for device in there}
            gone = [device for device in progress.devices if device["ifindex"] not in numbers]
            progress.devices = [*there, *gone]
            return sink(
                _meta(options, facts, progress.devices, attached, functions)
                | {"headers": bpf.compiled.headers}
            )

        skipped = partial(program.misses, bpf)
        drain = Drain(
            bpf,
            start.ring,
            begin,
            observe,
            skipped,
            options.drivers,
            functions,
            asked,
            progress,
            options.flush or FLUSH_INTERVAL,
        )
        stack.push(drain.abandon)
        _survive()
        drain.start()
        try:
            maps.arm(bpf, True)
            progress.started = time.monotonic()
            ready(progress)
            with command.running(options.command, oom_score_adj) as child:
                _wait(options, identities, stop, drain, progress, show, show_interval or SHOW_INTERVAL, child)
            progress.status = command.exit_status(child) if child else 0
        finally:
            maps.arm(bpf, False)
            loader.detach(bpf)
            drain.finish()
    return progress


def _check_layout(bpf: maps.Tables) -> None:
    """Refuse a program whose struct rxt_event has another layout than Python's EVENT."""
    compiled = np.dtype(bpf["layout"].Leaf)
    if compiled != EVENT:
        raise UserError(
            "probes/event.h and its reader disagree on the layout of an event; reinstall the toolkit."
        )


def _meta(
    options: Options,
    facts: list[dict[str, Any]],
    devices: list[dict[str, Any]],
    attached: list[program.Attached],
    functions: Functions,
) -> dict[str, Any]:
    """Return the JSON object of the whole trace (docs/trace-file.md)."""
    drivers = []
    for driver, fact in zip(options.drivers, facts, strict=True):
        hooks = [
            entry for entry in attached if entry.hook in driver.hooks or entry.hook.program.startswith("rxt_")
        ]
        present = {entry.hook.program for entry in hooks if entry.at}
        drivers.append(
            {
                "name": driver.name,
                **fact,
                "regime": program.regime(driver, present, functions),
                "hooks": [
                    {
                        "program": entry.hook.program,
                        "at": list(entry.hook.at),
                        "attached": entry.at,
                        "missing": entry.hook.missing,
                        "why": entry.why,
                    }
                    for entry in hooks
                ],
            }
        )
    uname = os.uname()
    return {
        "toolkit": __version__,
        "host": uname.nodename,
        "kernel": uname.release,
        "arch": uname.machine,
        "cpus": program.cpus(),
        "clock": kernel.clocks(),
        "options": {
            "detail": "full" if options.full else "normal",
            "devices": list(options.devices),
            "queues": list(options.queues),
        },
        "gfp_flags": kernel.gfp_flags(),
        "drivers": drivers,
        "devices": devices,
    }


def _survive() -> None:
    """Keep this process going when memory is short: its pages stay, and it is not the one to be killed."""
    gc.collect()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.malloc_trim(0)  # what was read of the kernel's types is not to be locked
    libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("-1000")


@contextmanager
def _signals(asked: SimpleQueue[bool]) -> Iterator[threading.Event]:
    """Have SIGINT, SIGTERM and SIGHUP end the trace, not the process, and SIGUSR1 ask for the next sink.

    Afterwards they do nothing: the trace has ended, and the process is about to. A signal that came a moment
    after the trace had ended by itself would only make a good end look like a failure.
    """
    stop = threading.Event()

    for number in _ENDING:
        signal.signal(number, lambda *_: stop.set())
    signal.signal(signal.SIGUSR1, lambda *_: asked.put(True))
    try:
        yield stop
    finally:
        for number in (*_ENDING, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)


def _wait(
    options: Options,
    identities: Sequence[int | None],
    stop: threading.Event,
    drain: Drain,
    progress: Progress,
    show: Callable[[Progress], None],
    show_interval: float,
    child: subprocess.Popen[bytes] | None = None,
) -> None:
    """Wait until the trace is to end; `progress.reason` says why."""
    end = math.inf if options.duration is None else time.monotonic() + options.duration
    show_at = look_at = 0.0
    with kernel.statistics() as ask_statistics:
        while True:
            now = time.monotonic()
            if now >= look_at:
                look_at = now + LOOK_INTERVAL
                ask_statistics(device["name"] for device in progress.devices)
            if stop.is_set():
                progress.reason = "interrupt"
            elif now >= end:
                progress.reason = "duration"
            elif child and child.poll() is not None:
                progress.reason = "command"
            elif drain.failed:
                progress.reason = "write failed"
            elif [kernel.module_identity(driver.module) for driver in options.drivers] != list(identities):
                progress.reason = "module unloaded"
            if progress.reason:
                return
            if now >= show_at:
                show_at = now + show_interval
                show(progress)
            child_at = now + CHILD_INTERVAL if child else math.inf
            stop.wait(max(0.0, min(show_at, look_at, end, child_at) - now))
