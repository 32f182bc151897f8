# SPDX-License-Identifier: GPL-2.0-only
"""One trace from beginning to end: load, attach, drain, write, detach."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from toolkit.capture import command, kernel, program
from toolkit.capture.ring import Ring, ledger
from toolkit.capture.start import Options, Start
from toolkit.drivers import Driver
from toolkit.errors import UserError
from toolkit.event import KIND
from toolkit.trace.schema import EVENT, Events
from toolkit.version import __version__

#: Room for events that wait for the disk: as much as the kernel's ring, and so much at least.
POOL_BYTES = 32 << 20
#: At most so many in one batch of the file.
BATCH_EVENTS = 1 << 16
#: How often the ring is looked at, and how often a batch is written at least (s).
DRAIN_INTERVAL = 0.02
FLUSH_INTERVAL = 0.5
#: How often the probes look at all queues (s), also at those to which nothing happens.
LOOK_INTERVAL = 1.0

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4  # include/uapi/asm-generic/mman.h


class Sink(Protocol):
    """Where batches go: a file (TraceWriter) or memory (recent.Recent)."""

    def write(self, events: Events, note: Mapping[str, Any]) -> None: ...

    def close(self, note: Mapping[str, Any]) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass
class Progress:
    """What a running trace can say of itself; counters only grow.

    `blind` says why the observer sees no more events, if it failed; the recording goes on.
    `status` is the exit status of the command that ran meanwhile, 0 without one.
    """

    started: float = 0.0
    events: int = 0
    dropped: int = 0
    reason: str = ""
    blind: str = ""
    status: int = 0
    missing: list[program.Attached] = field(default_factory=list)
    devices: list[dict[str, Any]] = field(default_factory=list)


def run(
    start: Start,
    sink: Callable[[dict[str, Any]], Sink],
    observe: Callable[[Events], object],
    show: Callable[[Progress], None],
    ready: Callable[[Progress], None],
    stop: threading.Event | None = None,
) -> Progress:
    """Record a trace until its time is over, its command ends, a signal comes or the module goes.

    At SIGUSR1 the trace goes on in a new sink: each event is in one of them, and each has a ledger of its
    own.

    :param start: what was found, and the program that is being compiled.
    :param sink: is given the JSON object of a trace, and makes what the batches go to.
    :param observe: is given the events of each batch after they were written.
    :param show: is called about twice a second.
    :param ready: is called once, when everything is attached.
    :param stop: ends the trace, in the place of signals, where this is not the main thread.
    :return: the last progress; its `reason` says why the trace ended.
    :raises UserError: if this kernel or this file does not allow it.
    """
    options, facts, identities, devices = start.options, start.facts, start.identities, start.devices
    bpf, headers = start.program.result()
    _check_layout(bpf)
    program.set_filters(bpf, start.chosen, options.queues)

    progress = Progress(devices=devices)
    rotate = threading.Event()
    oom_score_adj = command.oom_score_adj()
    with contextlib.ExitStack() as stack:
        stop = stop or stack.enter_context(_signals(rotate))
        attached = program.attach(bpf, program.hooks(options.drivers))
        progress.missing = [hook for hook in attached if hook.at is None]

        def begin() -> Sink:
            there = [device for driver in options.drivers for device in kernel.devices(driver)]
            numbers = {device["ifindex"] for device in there}
            gone = [device for device in progress.devices if device["ifindex"] not in numbers]
            progress.devices = [*there, *gone]
            return sink(_meta(options, facts, progress.devices, attached) | {"headers": headers})

        skipped = partial(program.misses, bpf)
        drain = _Drain(bpf, start.ring, begin, observe, skipped, options.drivers, rotate, progress)
        stack.push(drain.abandon)
        _survive()
        drain.start()
        try:
            program.arm(bpf, True)
            progress.started = time.monotonic()
            ready(progress)
            with command.running(options.command, oom_score_adj) as child:
                _wait(options, identities, stop, drain, progress, show, child)
            progress.status = command.exit_status(child) if child else 0
        finally:
            program.arm(bpf, False)
            program.detach(bpf)
            drain.finish()
    return progress


def _check_layout(bpf: Any) -> None:
    """The compiler's word on struct rxt_event must be Python's."""
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
) -> dict[str, Any]:
    """The JSON object of the whole trace (docs/trace-file.md)."""
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
                "regime": program.regime(driver, present),
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
    """Keeps this process going when memory is short: its pages stay, and it is not the one to be killed."""
    gc.collect()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.malloc_trim(0)  # the compiler's leavings are not to be locked
    libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("-1000")


@contextmanager
def _signals(rotate: threading.Event) -> Iterator[threading.Event]:
    """Have SIGINT, SIGTERM and SIGHUP end the trace, not the process, and SIGUSR1 set `rotate`."""
    stop = threading.Event()
    saved = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    saved[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, lambda *_: rotate.set())
    try:
        yield stop
    finally:
        for number, handler in saved.items():
            signal.signal(number, handler)


def _wait(
    options: Options,
    identities: Sequence[int | None],
    stop: threading.Event,
    drain: _Drain,
    progress: Progress,
    show: Callable[[Progress], None],
    child: subprocess.Popen[bytes] | None = None,
) -> None:
    """Returns when the trace is to end; `progress.reason` says why."""
    end = None if options.duration is None else time.monotonic() + options.duration
    shown = looked = 0.0
    while True:
        now = time.monotonic()
        if now - looked >= LOOK_INTERVAL:
            looked = now
            kernel.ask_statistics(device["name"] for device in progress.devices)
        if stop.is_set():
            progress.reason = "interrupt"
        elif end is not None and now >= end:
            progress.reason = "duration"
        elif child and child.poll() is not None:
            progress.reason = "command"
        elif drain.failed:
            progress.reason = "write failed"
        elif [kernel.module_identity(driver.module) for driver in options.drivers] != list(identities):
            progress.reason = "module unloaded"
        if progress.reason:
            return
        if now - shown >= FLUSH_INTERVAL:
            shown = now
            show(progress)
        stop.wait(min(0.1, max(0.0, end - now)) if end is not None else 0.1)


class _Drain:
    """Two threads: one empties the kernel's ring into the pool, the other writes the pool to the file.

    The pool is one array used as a ring: `head` events were put in and `tail` taken out since the beginning.

    :param ring: size of the kernel's ring, in bytes.
    :param begin: makes what the batches go to, now.
    :param observe: is given the events of each batch after they were written.
    :param skipped: asks how often the kernel has skipped each program (program.misses).
    :param drivers: those that are traced, in the order of their numbers in events.
    :param rotate: when it is set, `begin` makes what the batches that follow go to.
    """

    def __init__(
        self,
        bpf: Any,
        ring: int,
        begin: Callable[[], Sink],
        observe: Callable[[Events], object],
        skipped: Callable[[], Mapping[str, int] | None],
        drivers: Sequence[Driver],
        rotate: threading.Event,
        progress: Progress,
    ) -> None:
        self._bpf = bpf
        self._begin = begin
        self._observe = observe
        self._skipped = skipped
        self._skipped_before = skipped()
        self._drivers = drivers
        self._rotate = rotate
        self._sink = begin()
        self._progress = progress
        self._ring = Ring(bpf["events"].map_fd, ring)
        self._pool: Events = np.zeros(max(ring, POOL_BYTES) // EVENT.itemsize, EVENT)
        self._head = self._tail = 0
        self._cpus = program.cpus()
        kinds = len(bpf["ledger"]) // self._cpus
        self._ledger = ledger(bpf["ledger"].map_fd, self._cpus, kinds)
        self._leftovers = 0
        self._delivered: NDArray[np.int64] = np.zeros((kinds, self._cpus), np.int64)
        # What was counted before the present sink was begun.
        self._delivered_before = self._delivered.copy()
        self._dropped_before = self._delivered.copy()
        self._detached = threading.Event()
        self._drained = threading.Event()
        self._threads = [
            threading.Thread(target=self._read, name="rxt-drain", daemon=True),
            threading.Thread(target=self._write, name="rxt-write", daemon=True),
        ]
        self.failed: Exception | None = None

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Call it when the probes are off: takes what is left and ends the file.

        :raises UserError: if the file could not be written.
        """
        self._detached.set()
        for thread in self._threads:
            thread.join()
        if self.failed:
            raise self.failed

    def abandon(self, *error: Any) -> None:
        """Let go of the file as it is; does nothing if it was ended."""
        self._sink.__exit__(*error)

    def _read(self) -> None:
        while True:
            last = self._detached.is_set()
            moved = self._move()
            if not moved:
                if last:
                    break
                time.sleep(DRAIN_INTERVAL)
        self._drained.set()

    def _move(self) -> int:
        """Return how many events went from the kernel's ring into the pool."""
        start = self._head % len(self._pool)
        room = min(len(self._pool) - (self._head - self._tail), len(self._pool) - start)
        if not room:
            time.sleep(DRAIN_INTERVAL)
            return 0 if self.failed else 1
        count = self._ring.read_into(self._pool[start : start + room])
        self._head += count
        return count

    def _write(self) -> None:
        try:
            written = 0.0
            while True:
                last = self._drained.is_set()
                waiting = self._head - self._tail
                if waiting >= BATCH_EVENTS // 2 or time.monotonic() - written >= FLUSH_INTERVAL or last:
                    written = time.monotonic()
                    if waiting:
                        self._write_batch(waiting)
                    elif last:
                        break
                else:
                    time.sleep(DRAIN_INTERVAL)
                if self._rotate.is_set():
                    self._rotate.clear()
                    self._go_on_in_next()
            self._write_leftovers()
            self._sink.close(self._note() | {"end": self._end(self._progress.reason)})
        except Exception as error:
            self.failed = error

    def _end(self, reason: str) -> dict[str, Any]:
        """Return the `end` of a sink: why it ended, and how often programs were skipped since it began."""
        now, before = self._skipped(), self._skipped_before or {}
        if now is None:
            return {"reason": reason}
        self._skipped_before = now
        more = {name: count - before.get(name, 0) for name, count in now.items()}
        return {"reason": reason, "missed": {name: count for name, count in more.items() if count}}

    def _write_batch(self, waiting: int) -> None:
        start = self._tail % len(self._pool)
        count = min(waiting, BATCH_EVENTS, len(self._pool) - start)
        self._put(self._pool[start : start + count])
        self._tail += count

    def _go_on_in_next(self) -> None:
        """End the sink with what is in the pool now, and begin the next.

        What was attempted and not yet delivered belongs to the next: so each event is in one of them.
        """
        end = self._head
        while self._tail < end:
            self._write_batch(end - self._tail)
        dropped = self._ledger["dropped"].T.astype(np.int64)
        note = self._note(dropped, attempted=self._delivered + dropped)
        self._sink.close(note | {"end": self._end("rotated")})
        self._delivered_before, self._dropped_before = self._delivered.copy(), dropped
        self._sink = self._begin()

    def _write_leftovers(self) -> None:
        """Write the windows that are still open; the probes are off, so nothing else will send them."""
        windows = []
        for queue in self._bpf["queues"].values():
            napi, worker = (np.frombuffer(window, EVENT) for window in (queue.window, queue.worker_window))
            # Interrupts are counted beside the window (probes/core/queue.c), which has 16 bits for them.
            napi["irqs"] = min(queue.irqs - queue.irqs_sent, 0xFFFF)
            windows += [window for window in (napi, worker) if window["kind"]]
        if windows:
            self._leftovers = len(windows)
            self._put(np.concatenate(windows))

    def _put(self, events: Events) -> None:
        """Write events, and only then let the observer see them."""
        places = events["kind"].astype(np.int64) * self._cpus + events["cpu"] % self._cpus
        counts = np.bincount(places, minlength=self._delivered.size)
        self._delivered += counts.reshape(self._delivered.shape)
        self._progress.events += len(events)
        self._sink.write(events, self._note() | self._new_devices(events))
        if not self._progress.blind:
            try:
                self._observe(events)
            except Exception as error:
                self._progress.blind = f"{type(error).__name__}: {error}"

    def _new_devices(self, events: Events) -> dict[str, Any]:
        """Get to know the devices that events name for the first time.

        :return: `devices`, all of the trace, for the note of a batch; nothing, if there is no new one.
        """
        known = [device["ifindex"] for device in self._progress.devices]
        new = events[~np.isin(events["ifindex"], known)]
        if not len(new):
            return {}
        _, first = np.unique(new["ifindex"], return_index=True)
        found = [self._device(self._drivers[int(row["driver"])], int(row["ifindex"])) for row in new[first]]
        self._progress.devices = [*self._progress.devices, *found]
        return {"devices": self._progress.devices}

    def _device(self, driver: Driver, number: int) -> dict[str, Any]:
        """Return the JSON object of a device that events call by a number (docs/trace-file.md)."""
        for device in kernel.devices(driver):
            if device["ifindex"] == number:
                return device
        netns, name = program.device_name(self._bpf, number) or (None, f"if{number}")
        if netns not in (None, kernel.netns()):
            names = {inode: name for name, inode in kernel.namespaces().items()}
            name = f"{names.get(netns, f'net:[{netns}]')}/{name}"
        return {"ifindex": number, "name": name, "driver": driver.name, "bus": "", "queues": []}

    def _note(
        self, dropped: NDArray[np.int64] | None = None, attempted: NDArray[np.int64] | None = None
    ) -> dict[str, Any]:
        """Return the JSON object of a batch: the clock and the ledger.

        :param dropped: by kind and CPU, since the trace began; by default, as the kernel has counted now.
        :param attempted: likewise.
        """
        counts = self._ledger.copy()
        dropped = counts["dropped"].T.astype(np.int64) if dropped is None else dropped
        if attempted is None:
            attempted = counts["attempted"].T.astype(np.int64)
            attempted[KIND["window"], 0] += self._leftovers
        columns = {
            "attempted": attempted - self._delivered_before - self._dropped_before,
            "delivered": self._delivered - self._delivered_before,
            "dropped": dropped - self._dropped_before,
        }
        ledger = {
            kind: {name: column[number].tolist() for name, column in columns.items()}
            for kind, number in KIND.items()
        }
        self._progress.dropped = int(dropped.sum())
        return {"now_ns": time.clock_gettime_ns(time.CLOCK_MONOTONIC), "ledger": ledger}
