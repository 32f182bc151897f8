# SPDX-License-Identifier: GPL-2.0-only
"""From the kernel's ring to where a trace goes: no event is lost on the way, and each is in one batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from toolkit.capture import bpf_programs, counters, kernel, maps, memory, program, steal
from toolkit.capture.ring import Ring, ledger
from toolkit.driver import Driver
from toolkit.event import IN_USER, KIND, NO_STACK, NO_TICK_NS, NOBODY
from toolkit.trace.schema import EVENT, Events

#: Room for events that wait for the disk: as much as the kernel's ring, and so much at least.
POOL_BYTES = 32 << 20
#: At most so many in one batch of the file.
BATCH_EVENTS = 1 << 16
#: How often the ring is looked at, at most and at least (s). In between, half of it fills at this rate.
DRAIN_INTERVAL = 0.02
LONGEST_INTERVAL = 0.5
MOST_PER_S_AND_CPU = 100_000
#: Events are left for so long (s) in a ring that is less full than this: to take few costs as much as many.
LEAVE_INTERVAL = LONGEST_INTERVAL
LITTLE = 1 / 8
#: How often a batch is written at least (s): where somebody looks, or while refills fail.
FLUSH_INTERVAL = 0.5
#: How often it is looked whether memory is short, at most (s): while refills fail, and else.
MEMORY_INTERVAL = 0.25
MEMORY_INTERVAL_ELSE = 1.0
#: How often the watermarks are read while no refill fails (s).
WATERMARKS_INTERVAL = 60.0
#: How often it is read what the hypervisor took (s), if it took anything; also where a clock did not tick.
STEAL_INTERVAL = 5.0
#: How often the kernel is asked which probes it has skipped, at most (s).
MISSED_INTERVAL = 30.0
#: How often the functions of the kernel are read again, at most (s).
FUNCTIONS_INTERVAL = 10.0


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
    `threads` names those that had a CPU while a poll was waited for.
    `status` is the exit status of the command that ran meanwhile, 0 without one.
    `missed` is how often the kernel skipped a probe (program.misses); None if it does not count that.
    """

    started: float = 0.0
    events: int = 0
    dropped: int = 0
    reason: str = ""
    blind: str = ""
    status: int = 0
    missing: list[program.Attached] = field(default_factory=list)
    devices: list[dict[str, Any]] = field(default_factory=list)
    threads: dict[int, str] = field(default_factory=dict)
    missed: int | None = None

    @property
    def names(self) -> dict[int, str]:
        """The name of each device, by the number that events call it."""
        return {device["ifindex"]: device["name"] for device in self.devices}


class Drain:
    """Two threads: one empties the kernel's ring into the pool, the other writes the pool to the file.

    The pool is one array used as a ring: `head` events were put in and `tail` taken out since the beginning.

    :param ring: size of the kernel's ring, in bytes.
    :param begin: makes what the batches go to, now.
    :param observe: is given the events of each batch after they were written.
    :param skipped: asks how often the kernel has skipped each program (program.misses).
    :param drivers: those that are traced, in the order of their numbers in events.
    :param functions: of the kernel: they name what stacks are made of.
    :param asked: what is put into it has the ring looked at at once; after True, `begin` makes what the
        batches go to of what is sent from then on.
    :param flush: how often a batch is written at least (s), while no refill fails.
    """

    def __init__(
        self,
        bpf: Any,
        ring: int,
        begin: Callable[[], Sink],
        observe: Callable[[Events], object],
        skipped: Callable[[], Mapping[str, int] | None],
        drivers: Sequence[Driver],
        functions: kernel.Functions,
        asked: SimpleQueue[bool],
        progress: Progress,
        flush: float = FLUSH_INTERVAL,
    ) -> None:
        self._bpf = bpf
        self._flush = flush
        self._fails = False
        self._begin = begin
        self._observe = observe
        self._skipped = skipped
        self._skipped_before = skipped()
        self._drivers = drivers
        self._functions = functions
        self._functions_read = self._programs_read = -FUNCTIONS_INTERVAL
        self._programs: list[bpf_programs.Code] = []
        self._stacks: dict[int, list[str]] = {}
        self._looked = -MEMORY_INTERVAL_ELSE
        self._watermarks: dict[str, int] = {}
        self._watermarks_read = -WATERMARKS_INTERVAL
        self._steal_read = -STEAL_INTERVAL
        self._steals = False
        self._missed_read = -MISSED_INTERVAL
        self._asked = asked
        self._sink = begin()
        self._progress = progress
        self._counted_before = self._count()
        self._ring = Ring(bpf["events"].map_fd, ring)
        self._pool: Events = np.zeros(max(ring, POOL_BYTES) // EVENT.itemsize, EVENT)
        self._head = self._tail = 0
        self._cpus = program.cpus()
        until_half_full = self._ring.events / 2 / (self._cpus * MOST_PER_S_AND_CPU)
        self._interval = max(DRAIN_INTERVAL, min(LONGEST_INTERVAL, until_half_full))
        kinds = len(bpf["ledger"]) // self._cpus
        self._ledger = ledger(bpf["ledger"].map_fd, self._cpus, kinds)
        self._leftovers = 0
        self._delivered: NDArray[np.int64] = np.zeros((kinds, self._cpus), np.int64)
        # What was counted before the present sink was begun.
        self._delivered_before = self._delivered.copy()
        self._dropped_before = self._delivered.copy()
        self._detached = threading.Event()
        self._drained = threading.Event()
        self._to_do = threading.Event()
        self._cut = threading.Event()
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
        self._asked.put(False)
        for thread in self._threads:
            thread.join()
        if self.failed:
            raise self.failed

    def abandon(self, *error: Any) -> None:
        """Let go of the file as it is; does nothing if it was ended."""
        self._sink.__exit__(*error)

    def _read(self) -> None:
        emptied, rotates = 0.0, False
        while True:
            last = self._detached.is_set()
            moved, now = 0, time.monotonic()
            many = self._ring.waiting >= LITTLE * self._ring.events
            if last or many or rotates or now - emptied >= LEAVE_INTERVAL:
                moved, emptied = self._move(), now
            if rotates:
                # What was there when it was asked for is in the sink that ends, also beyond the pool's end.
                moved += self._move()
                self._cut.set()
            if self._head - self._tail >= BATCH_EVENTS // 2 or rotates:
                self._to_do.set()
            if last and not moved and self._asked.empty():
                break
            # More may be there where the pool ended, and has come where there was much.
            more = moved and (moved >= self._ring.events // 4 or self._head % len(self._pool) == 0)
            rotates = self._is_asked_to_rotate(0.0 if last or more else self._interval)
        self._drained.set()
        self._to_do.set()

    def _is_asked_to_rotate(self, most: float) -> bool:
        """Wait until something is asked for, at most so long [s]; tell whether it is that."""
        # A SimpleQueue may be put into by a signal handler, whatever this thread is at.
        try:
            return self._asked.get(timeout=most)
        except Empty:
            return False

    def _move(self) -> int:
        """Return how many events went from the kernel's ring into the pool."""
        start = self._head % len(self._pool)
        room = min(len(self._pool) - (self._head - self._tail), len(self._pool) - start)
        if not room:
            time.sleep(DRAIN_INTERVAL)
            return 0 if self.failed else 1
        count = self._ring.read_into(self._pool[start : start + room])
        if not self._fails and self._pool["failed"][start : start + count].any():
            self._fails = True
            self._to_do.set()
        self._head += count
        return count

    def _write(self) -> None:
        try:
            written = 0.0
            while True:
                last = self._drained.is_set()
                self._to_do.clear()
                waiting = self._head - self._tail
                rest = written + (FLUSH_INTERVAL if self._fails else self._flush) - time.monotonic()
                if waiting >= BATCH_EVENTS // 2 or rest <= 0 or last:
                    written, self._fails = time.monotonic(), False
                    if waiting:
                        self._write_batch(waiting)
                    elif last:
                        break
                else:
                    self._to_do.wait(rest)
                if self._cut.is_set():
                    self._cut.clear()
                    self._go_on_in_next()
            self._write_leftovers()
            self._sink.close(self._note() | {"end": self._end(self._progress.reason)})
        except Exception as error:
            self.failed = error

    def _end(self, reason: str) -> dict[str, Any]:
        """Return the `end` of a sink: why it ended, and what was counted meanwhile beside the events."""
        found: dict[str, Any] = {"reason": reason}
        counted, counted_before = self._count(), self._counted_before
        self._counted_before = counted
        if grown := counters.growth(counted_before, counted):
            found["counters"] = grown
        skipped, skipped_before = self._skipped(), self._skipped_before or {}
        if skipped is None:
            return found
        self._skipped_before = skipped
        missed = {name: count - skipped_before.get(name, 0) for name, count in skipped.items()}
        return found | {"missed": {name: count for name, count in missed.items() if count}}

    def _count(self) -> dict[str, dict[str, int]]:
        """Return what the devices of this trace count as lost, those of this network namespace."""
        return counters.read(device["name"] for device in self._progress.devices)

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
        # Each file has a look to compare with.
        self._steal_read = -STEAL_INTERVAL

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
        note = self._note() | self._new_devices(events) | self._of_cpus(events) | self._of_memory(events)
        note |= self._of_steal(events)
        self._sink.write(events, note)
        self._count_missed()
        if not self._progress.blind:
            try:
                self._observe(events)
            except Exception as error:
                self._progress.blind = f"{type(error).__name__}: {error}"

    def _new_devices(self, events: Events) -> dict[str, Any]:
        """Get to know the devices that events name for the first time.

        :return: `devices`, all of the trace, for the note of a batch; nothing, if there is no new one.
        """
        known = {device["ifindex"] for device in self._progress.devices}
        new = sorted(set(events["ifindex"].tolist()) - known)
        if not new:
            return {}
        numbers = [int(events["driver"][(events["ifindex"] == ifindex).argmax()]) for ifindex in new]
        found = [
            self._device(self._drivers[number], ifindex) for number, ifindex in zip(numbers, new, strict=True)
        ]
        self._progress.devices = [*self._progress.devices, *found]
        return {"devices": self._progress.devices}

    def _of_cpus(self, events: Events) -> dict[str, Any]:
        """Name the threads that had a CPU while a queue of these events waited, and the stacks of ticks.

        :return: `threads` and `stacks`, for the note of their batch; neither, if there is none.
        """
        kinds = events["kind"]
        ticks = kinds == KIND["tick"]
        waits = ticks | (kinds == KIND["late"])
        if not waits.any():
            return {}
        # np.unique() of values alone imports numpy.ma, which takes as long as several batches.
        tids = sorted(set(events["tid"][waits].tolist()) - {NOBODY})
        named = {tid: maps.thread_name(self._bpf, tid) for tid in tids}
        threads = {tid: name for tid, name in named.items() if name is not None}
        self._progress.threads |= threads
        note = {}
        if threads:
            note["threads"] = [{"tid": tid, "name": name} for tid, name in threads.items()]
        numbers = sorted(set(events["gfp"][ticks].tolist()) - {NO_STACK, IN_USER})
        new = {number: maps.stack(self._bpf, number) for number in set(numbers) - self._stacks.keys()}
        if new:
            self._know({address for stack in new.values() for address in stack})
        self._stacks |= {number: [self._name(address) for address in stack] for number, stack in new.items()}
        if stacks := {number: self._stacks[number] for number in numbers}:
            note["stacks"] = [{"stack": number, "functions": names} for number, names in stacks.items()]
        return note

    def _know(self, addresses: Iterable[int]) -> None:
        """Read again what tells the names of these addresses, if one is not known.

        BPF programs are read at most once for a batch, and also if what is known of them is older than
        FUNCTIONS_INTERVAL, since another may lie where one was. The kernel's functions, which take longer,
        are read again at most every FUNCTIONS_INTERVAL, as for those of a module that was loaded since.
        """
        now = time.monotonic()
        others = [address for address in addresses if not self._functions.at(address)]

        def known() -> bool:
            return all(bpf_programs.name_at(self._programs, address) for address in others)

        old = now - self._programs_read >= FUNCTIONS_INTERVAL
        if others and (old or not known()):
            self._programs, self._programs_read = bpf_programs.loaded(), now
            if not known() and now - self._functions_read >= FUNCTIONS_INTERVAL:
                self._functions, self._functions_read = kernel.functions(), now

    def _name(self, address: int) -> str:
        """Return the function that an address is in; the address in hexadecimal, if in none that is known."""
        name = self._functions.at(address) or bpf_programs.name_at(self._programs, address)
        return name or f"{address:#x}"

    def _count_missed(self) -> None:
        """Ask the kernel which probes it has skipped, at most every MISSED_INTERVAL."""
        now = time.monotonic()
        if now - self._missed_read >= MISSED_INTERVAL:
            self._missed_read = now
            skipped = self._skipped()
            self._progress.missed = None if skipped is None else sum(skipped.values())

    def _of_memory(self, events: Events) -> dict[str, Any]:
        """Look whether memory is short, not every time.

        :return: `memory`, for the note of the batch with these events.
        """
        now, fails = time.monotonic(), events["failed"].any()
        if now - self._looked < (MEMORY_INTERVAL if fails else MEMORY_INTERVAL_ELSE):
            return {}
        self._looked = now
        if fails or now - self._watermarks_read >= WATERMARKS_INTERVAL:
            self._watermarks, self._watermarks_read = memory.watermarks(), now
        return {"memory": [memory.read() | self._watermarks]}

    def _of_steal(self, events: Events) -> dict[str, Any]:
        """Read how much time the hypervisor took, not every time.

        :return: `steal`, for the note of the batch with these events. While that is nothing, only once in a
            file: then it may also be that the hypervisor does not tell.
        """
        first, now = self._steal_read < 0, time.monotonic()
        stopped = (events["dur"] >= NO_TICK_NS) & (events["kind"] == KIND["tick"])
        often = self._steals and now - self._steal_read >= STEAL_INTERVAL
        if not (first or often or stopped.any()):
            return {}
        self._steal_read = now
        at = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        taken = steal.read()
        self._steals = any(taken)
        return {"steal": [{"at_ns": at, "ns": taken}]} if self._steals or (taken and first) else {}

    def _device(self, driver: Driver, number: int) -> dict[str, Any]:
        """Return the JSON object of a device that events call by a number (docs/trace-file.md)."""
        for device in kernel.devices(driver):
            if device["ifindex"] == number:
                return device
        netns, name = maps.device_name(self._bpf, number) or (None, f"if{number}")
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
        counted = np.any(list(columns.values()), axis=(0, 2)).tolist()
        ledger = {
            kind: {name: column[number].tolist() for name, column in columns.items()}
            for kind, number in KIND.items()
            if counted[number]
        }
        self._progress.dropped = int(dropped.sum())
        return {"now_ns": time.clock_gettime_ns(time.CLOCK_MONOTONIC), "ledger": ledger}
