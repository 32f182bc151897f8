# SPDX-License-Identifier: GPL-2.0-only
"""The rings that the driver shares with the NIC: completion queues with their buffer queues, and work queues.

Inbound indices are plain memory here: BAR 3's upper half is mapped into the guest. The NIC reads them when it
needs them; nothing tells it of a change.
"""

from __future__ import annotations

import logging
from struct import Struct
from typing import NamedTuple

from vm.models.qlge_nic.counts import RingCounts, Starvation
from vm.models.qlge_nic.registers import (
    BQ_ALIGN,
    CQICB_LC,
    CQICB_LL,
    CQICB_LS,
    DB_PAGE_SIZE,
    IB_DL,
    IB_DS,
    LEN_FLAGS,
    OPCODE_IB_MAC_IOCB,
    OUTBOUND_QUEUES,
)
from vm.vfio_user.memory import DmaError, GuestMemory

log = logging.getLogger(__name__)

COMPLETION_SIZE, WORK_SIZE = 64, 128
_COMPLETION_CONTROL, _WORK_CONTROL = Struct("<BxxBH2xQQ4xQHHQHH"), Struct("<HHH2xQQ")
COMPLETION_CONTROL_SIZE, WORK_CONTROL_SIZE = _COMPLETION_CONTROL.size, _WORK_CONTROL.size
#: struct qlge_ib_mac_iocb_rsp: opcode, flags 1 to 3, length, address, RSS hash, VLAN.
_RECEIVED = Struct("<BBBBIQIH42x")
#: struct qlge_ob_mac_iocb_rsp: opcode, flags 1, transaction, work queue.
_SENT = Struct("<BBxxII52x")
#: Words of a doorbell page (struct rx_doorbell_context).
_CONSUMER, _LBQ_PRODUCER, _SBQ_PRODUCER = 0, 6, 7
_PAGE_WORDS, _ENTRIES_PER_PAGE = DB_PAGE_SIZE // 4, DB_PAGE_SIZE // 8


class CompletionControl(NamedTuple):
    """struct cqicb."""

    vector: int
    flags: int
    length: int
    address: int
    producer_address: int
    large_table: int
    large_size: int
    large_length: int
    small_table: int
    small_size: int
    small_length: int

    @classmethod
    def parse(cls, block: bytes) -> CompletionControl:
        return cls._make(_COMPLETION_CONTROL.unpack(block))

    @property
    def loads_ring(self) -> bool:
        """False where the driver only changes the interrupt delays (qlge_update_ring_coalescing)."""
        return bool(self.flags & CQICB_LC)

    @property
    def inbound(self) -> bool:
        """Tell whether the ring has buffer queues; the other rings complete sent frames only."""
        return bool(self.flags & CQICB_LL and self.flags & CQICB_LS)


class WorkControl(NamedTuple):
    """struct wqicb."""

    length: int
    flags: int
    completion_queue: int
    address: int
    consumer_address: int

    @classmethod
    def parse(cls, block: bytes) -> WorkControl:
        return cls._make(_WORK_CONTROL.unpack(block))


def entries(length: int) -> int:
    """Return how many entries a ring has, by the length in its control block: QLGE_FIT16 makes 65536 a 0."""
    return length & ~LEN_FLAGS or 1 << 16


class BufferQueue:
    """A ring of buffers that the driver has posted: a struct qlge_bq, the lbq or the sbq.

    :param table: the guest's address of the list of pages that hold the buffers' addresses.
    :param size: bytes of a buffer.
    :param doorbells: BAR 3 as words; the producer index is the one at `producer`.
    """

    def __init__(
        self,
        table: int,
        length: int,
        size: int,
        doorbells: memoryview,
        producer: int,
        starvation: Starvation,
    ) -> None:
        self.table, self.length, self.size = table, length, size
        self.doorbells, self.producer, self.starvation = doorbells, producer, starvation
        self.consumer = 0
        self.pages: list[memoryview] = []
        doorbells[producer] = 0

    def bind(self, memory: GuestMemory) -> None:
        """Look the ring up in the guest's memory. :raises DmaError: if it is not there."""
        pages = -(-self.length // _ENTRIES_PER_PAGE)
        table = memory.view(self.table, 8 * pages).cast("Q")
        last = 8 * (self.length - (pages - 1) * _ENTRIES_PER_PAGE)
        sizes = [DB_PAGE_SIZE] * (pages - 1) + [last]
        self.pages = [memory.view(page, size).cast("Q") for page, size in zip(table, sizes, strict=True)]

    def posted(self) -> int:
        """Return how many buffers a frame could be put into."""
        return ((self.doorbells[self.producer] & -BQ_ALIGN) - self.consumer) % self.length

    def next(self, ahead: int = 0) -> int:
        """Return the guest's address of the next buffer, or of a buffer behind it; it must be posted."""
        at = (self.consumer + ahead) % self.length
        return self.pages[at // _ENTRIES_PER_PAGE][at % _ENTRIES_PER_PAGE]

    def take(self, count: int = 1) -> None:
        """Note that this many buffers are filled."""
        self.consumer = (self.consumer + count) % self.length
        if self.starvation.began:
            self.starvation.end()


class CompletionQueue:
    """A ring of completions for a vector, and for inbound ones the buffers that frames go into."""

    def __init__(
        self, number: int, control: CompletionControl, doorbells: memoryview, counts: RingCounts
    ) -> None:
        page = (OUTBOUND_QUEUES + number) * _PAGE_WORDS
        self.number, self.vector, self.counts = number, control.vector, counts
        self.address, self.length = control.address, entries(control.length)
        self.producer_address = control.producer_address
        self.doorbells, self.consumer_word = doorbells, page + _CONSUMER
        self.producer = 0
        doorbells[self.consumer_word] = 0
        self.lbq: BufferQueue | None = None
        self.sbq: BufferQueue | None = None
        if control.inbound:
            self.lbq = BufferQueue(
                control.large_table,
                control.large_length or 1 << 16,
                control.large_size or 1 << 16,
                doorbells,
                page + _LBQ_PRODUCER,
                counts.lbq,
            )
            self.sbq = BufferQueue(
                control.small_table,
                control.small_length or 1 << 16,
                control.small_size or 1 << 16,
                doorbells,
                page + _SBQ_PRODUCER,
                counts.sbq,
            )

    def bind(self, memory: GuestMemory) -> None:
        """Look the rings up in the guest's memory. :raises DmaError: if they are not there."""
        self.memory = memory
        self.entries = memory.view(self.address, self.length * COMPLETION_SIZE, write=True)
        self.shadow = memory.view(self.producer_address, 4, write=True).cast("I")
        for queue in (self.lbq, self.sbq):
            if queue is not None:
                queue.bind(memory)

    def waiting(self) -> int:
        """Return how many completions the driver has not consumed."""
        return (self.producer - self.doorbells[self.consumer_word]) % self.length

    def full(self) -> bool:
        return self.waiting() == self.length - 1

    def receive(self, frame: memoryview, flags: tuple[int, int, int], rss: int, vlan: int) -> bool:
        """Put a frame into buffers and complete it, or drop it and say why in the counts.

        Small frames take a small buffer, larger frames a large buffer. A frame that does not fit into one
        takes several, listed in a small buffer (qlge_process_mac_rx_intr).
        """
        lbq, sbq, counts = self.lbq, self.sbq, self.counts
        if lbq is None or sbq is None:
            return False
        if self.full():
            counts.dropped_cq_full += 1
            return False
        size = len(frame)
        try:
            if size <= sbq.size:
                if not sbq.posted():
                    sbq.starvation.drop()
                    return False
                address, where = sbq.next(), IB_DS
                self.memory.write(address, frame)
                sbq.take()
            elif size <= lbq.size:
                if not lbq.posted():
                    lbq.starvation.drop()
                    return False
                address, where = lbq.next(), IB_DL
                self.memory.write(address, frame)
                lbq.take()
            else:
                chain = self._chain(frame, lbq, sbq)
                if chain is None:
                    return False
                address, where = chain, 0
        except DmaError as error:
            if not counts.dropped_dma:
                log.warning("ring %d: a buffer cannot be reached: %s", self.number, error)
            counts.dropped_dma += 1
            return False
        _RECEIVED.pack_into(
            self.entries,
            self.producer * COMPLETION_SIZE,
            OPCODE_IB_MAC_IOCB,
            flags[0],
            flags[1],
            flags[2] | where,
            size,
            address,
            rss,
            vlan,
        )
        self._publish()
        counts.accepted += 1
        return True

    def sent(self, opcode: int, flags: int, transaction: int, work_queue: int) -> None:
        """Complete a frame that was sent. The ring must have room."""
        at = self.producer * COMPLETION_SIZE
        _SENT.pack_into(self.entries, at, opcode, flags, transaction, work_queue)
        self._publish()

    def _chain(self, frame: memoryview, lbq: BufferQueue, sbq: BufferQueue) -> int | None:
        if not sbq.posted():
            sbq.starvation.drop()
            return None
        needed = -(-len(frame) // lbq.size)
        if lbq.posted() < needed:
            lbq.starvation.drop()
            return None
        parts = [lbq.next(number) for number in range(needed)]
        for number, part in enumerate(parts):
            self.memory.write(part, frame[number * lbq.size : (number + 1) * lbq.size])
        address = sbq.next()
        self.memory.write(address, b"".join(part.to_bytes(8, "little") for part in parts))
        lbq.take(needed)
        sbq.take()
        return address

    def _publish(self) -> None:
        self.producer = (self.producer + 1) % self.length
        self.shadow[0] = self.producer


class WorkQueue:
    """A ring of frames to send."""

    def __init__(self, number: int, control: WorkControl) -> None:
        self.number, self.completion_queue = number, control.completion_queue & 0x7F
        self.address, self.length = control.address, entries(control.length)
        self.consumer_address = control.consumer_address
        self.consumer = self.producer = 0

    def bind(self, memory: GuestMemory) -> None:
        """Look the ring up in the guest's memory. :raises DmaError: if it is not there."""
        self.entries = memory.view(self.address, self.length * WORK_SIZE)
        self.shadow = memory.view(self.consumer_address, 4, write=True).cast("I")

    def next(self) -> memoryview | None:
        """Return the next control block, or None when all are done."""
        if self.consumer == self.producer:
            return None
        at = self.consumer * WORK_SIZE
        return self.entries[at : at + WORK_SIZE]

    def done(self) -> None:
        self.consumer = (self.consumer + 1) % self.length
        self.shadow[0] = self.consumer
