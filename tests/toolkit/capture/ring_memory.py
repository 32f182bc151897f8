# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's side of a ring buffer map, in a file in memory instead of a map."""

import mmap
import os
from types import SimpleNamespace
from typing import Any

import numpy as np

from toolkit.trace.schema import EVENT, Events

PAGE = mmap.PAGESIZE
HEADER = 8
#: BPF_RINGBUF_BUSY_BIT, include/uapi/linux/bpf.h.
BUSY = 1 << 31
RECORD = HEADER + EVENT.itemsize


class KernelRing:
    """A page with the consumer's position, one with the producer's, and the data.

    The kernel maps the data twice in a row. A file cannot, so each byte is written to both places.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.map_fd = os.memfd_create("ring")
        os.ftruncate(self.map_fd, 2 * PAGE + 2 * size)
        self._memory = mmap.mmap(self.map_fd, 2 * PAGE + 2 * size)

    @property
    def consumed(self) -> int:
        """The consumer's position in bytes; it only grows."""
        return int.from_bytes(self._memory[:8], "little")

    @property
    def produced(self) -> int:
        return int.from_bytes(self._memory[PAGE : PAGE + 8], "little")

    def reserve(self, event: Events) -> int | None:
        """Add a record that is still busy; return its position, or None where the ring is full."""
        at = self.produced
        if at + RECORD - self.consumed > self.size:
            return None
        self._put(at, (EVENT.itemsize | BUSY).to_bytes(4, "little") + bytes(4) + event.tobytes())
        self._memory[PAGE : PAGE + 8] = (at + RECORD).to_bytes(8, "little")
        return at

    def submit(self, at: int) -> None:
        """Clear the busy bit of a record."""
        self._put(at, EVENT.itemsize.to_bytes(4, "little"))

    def send(self, events: Events) -> int:
        """Add whole records until the ring is full; return how many were added."""
        for number in range(len(events)):
            at = self.reserve(events[number : number + 1])
            if at is None:
                return number
            self.submit(at)
        return len(events)

    def _put(self, at: int, data: bytes) -> None:
        for number, byte in enumerate(data):
            place = 2 * PAGE + (at + number) % self.size
            self._memory[place] = self._memory[place + self.size] = byte


def numbered(count: int, first: int = 0, **columns: Any) -> Events:
    """Return events that differ in their ts."""
    events = np.zeros(count, EVENT)
    events["ts"] = np.arange(first, first + count)
    for name, value in columns.items():
        events[name] = value
    return events


class Ledger:
    """The ledger, an array map of (cpus, kinds) counts, in a file in memory."""

    def __init__(self, cpus: int, kinds: int) -> None:
        self._length = cpus * kinds
        self.map_fd = os.memfd_create("ledger")
        size = -(-self._length * 16 // PAGE) * PAGE
        os.ftruncate(self.map_fd, size)
        memory = mmap.mmap(self.map_fd, size)
        dtype = [("attempted", "<u8"), ("dropped", "<u8")]
        self.counts = np.frombuffer(memory, dtype, self._length).reshape(cpus, kinds)

    def __len__(self) -> int:
        return self._length


class Queues(dict[int, SimpleNamespace]):
    """The map of struct rxt_queue, by key."""
