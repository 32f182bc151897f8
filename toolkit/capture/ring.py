# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's maps as memory: the ring buffer of events, and the ledger."""

from __future__ import annotations

import mmap

import numpy as np
from numpy.typing import NDArray

from toolkit.trace.schema import EVENT, Events

_PAGE = mmap.PAGESIZE
#: Header of a record: its length, whose two top bits say busy and discarded, and a page offset
#: (kernel/bpf/ringbuf.c, struct bpf_ringbuf_hdr).
_RECORD = np.dtype([("length", "<u4"), ("page", "<u4"), ("event", EVENT)])

#: As struct rxt_count in probes/core/ledger.c.
_COUNT = np.dtype([("attempted", "<u8"), ("dropped", "<u8")])


def ledger(map_fd: int, cpus: int, kinds: int) -> NDArray[np.void]:
    """Map the ledger, an array map with BPF_F_MMAPABLE, into memory.

    :return: an array of shape (cpus, kinds) with members attempted and dropped; it changes as the kernel
        counts.
    """
    length = -(-cpus * kinds * _COUNT.itemsize // _PAGE) * _PAGE
    memory = mmap.mmap(map_fd, length, mmap.MAP_SHARED, mmap.PROT_READ)
    return np.frombuffer(memory, _COUNT, cpus * kinds).reshape(cpus, kinds)


class Ring:
    """A ring buffer map, mapped into memory, in which every record is a struct rxt_event.

    :param map_fd: of a map of type BPF_MAP_TYPE_RINGBUF.
    :param size: of the ring's data in bytes, a power of two.

    Attributes: `events`, so many it holds.
    """

    def __init__(self, map_fd: int, size: int) -> None:
        # The consumer's page may be written; the producer's page and the data, mapped twice in a row so
        # that no record is broken at the end, may not (ringbuf_map_mmap_kern, libbpf's ringbuf.c).
        consumer = mmap.mmap(map_fd, _PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        producer = mmap.mmap(map_fd, _PAGE + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=_PAGE)
        self.events = size // _RECORD.itemsize
        self._mask = size - 1
        # Through a memoryview, which makes one load or store of eight bytes, and a number of Python's.
        self._consumed = memoryview(consumer).cast("Q")
        self._produced = memoryview(producer)[:_PAGE].cast("Q")
        self._data: NDArray[np.uint8] = np.frombuffer(producer, np.uint8, 2 * size, _PAGE)

    @property
    def waiting(self) -> int:
        """Return how many events are in the ring, those that are still being written among them."""
        return (self._produced[0] - self._consumed[0]) // _RECORD.itemsize

    def read_into(self, room: Events) -> int:
        """Move the events in the ring into `room`, oldest first.

        :param room: an array of dtype EVENT; events that do not fit stay in the ring.
        :return: how many events were moved.
        """
        count = min(self.waiting, len(room))
        if not count:
            return 0
        consumed = self._consumed[0]
        start = consumed & self._mask
        records = self._data[start : start + count * _RECORD.itemsize].view(_RECORD)
        whole = records["length"] == EVENT.itemsize
        if not whole.all():  # reserved and still being written
            count = int(whole.argmin())
            records = records[:count]
        room[:count] = records["event"]
        # The kernel reads it at any moment.
        self._consumed[0] = consumed + count * _RECORD.itemsize
        return count
