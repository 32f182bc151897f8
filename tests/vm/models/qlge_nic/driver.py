# SPDX-License-Identifier: GPL-2.0-only
"""A double of the qlge driver: brings a NIC up over vfio-user as qlge_main.c does, with memory of its own."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass, field
from struct import Struct, pack, pack_into, unpack_from
from typing import NamedTuple

from tests.vm.vfio_user.client import Client
from vm.vfio_user import messages as m

RAM, BASE = 1 << 24, 0x1_0000_0000
PAGE = 4096
CQ_LENGTH = WQ_LENGTH = 256
BQ_LENGTH = 512
SMALL = 256
BAR1, BAR3 = 1, 3
INBOUND = 0x80000
MAC = bytes.fromhex("525400000101")
RECEIVED = Struct("<BBBBIQIH")
SEED = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")
EXCLUSIVE = 1 << 27


class Completion(NamedTuple):
    opcode: int
    flags1: int
    flags2: int
    flags3: int
    length: int
    address: int
    rss: int
    vlan: int


@dataclass
class Buffers:
    """An lbq or sbq as the driver sees it (struct qlge_bq)."""

    size: int
    doorbell: int
    table: int
    base: int
    pool: int
    next_to_use: int = 0
    next_to_clean: int = 0
    posted: dict[int, int] = field(default_factory=dict)


@dataclass
class Ring:
    number: int
    base: int
    shadow: int
    lbq: Buffers | None = None
    sbq: Buffers | None = None
    consumer: int = 0


class Driver:
    """:param client: past the version."""

    def __init__(self, client: Client, rings: int = 2, large: int = 2048) -> None:
        self.client, self.rings, self.large = client, rings, large
        self.descriptor = os.memfd_create("guest")
        os.truncate(self.descriptor, RAM)
        self.ram = mmap.mmap(self.descriptor, RAM)
        client.map(BASE, RAM, self.descriptor)
        self.used = 0
        self.inbound = self._map_doorbells()
        self.eventfds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(rings)]
        client.irqs(m.DATA_EVENTFD | m.ACTION_TRIGGER, 0, rings, b"", self.eventfds)
        self.rx: list[Ring] = []
        self.tx: list[Ring] = []
        self.work: list[int] = []
        self.produced: list[int] = []

    def close(self) -> None:
        self.inbound.close()
        self.ram.close()
        for each in (self.descriptor, *self.eventfds):
            os.close(each)

    def _map_doorbells(self) -> mmap.mmap:
        info, capabilities, (descriptor,) = self.client.region_info(BAR3)
        offset, size = m.AREA.unpack_from(capabilities, m.SPARSE_MMAP.size)
        assert (offset, size) == (INBOUND, INBOUND)
        mapped = mmap.mmap(descriptor, size, offset=info[5] + offset)
        os.close(descriptor)
        return mapped

    # Registers

    def read(self, register: int) -> int:
        return self.client.read32(BAR1, register)

    def write(self, register: int, value: int) -> None:
        self.client.write32(BAR1, register, value)

    def read_behind(self, register: int, address: int) -> int:
        """Through an address and data register: PROC, FLASH or XGMAC."""
        assert self.read(register) >> 31
        self.write(register, address | 1 << 30)
        assert self.read(register) >> 31
        return self.read(register + 4)

    def write_behind(self, register: int, address: int, value: int) -> None:
        self.write(register + 4, value)
        self.write(register, address)

    def status(self) -> int:
        return self.read(0x30)

    def message(self, count: int) -> list[int]:
        """qlge_get_mb_sts"""
        return [self.read_behind(0, 0x1190 + number) for number in range(count)]

    def acknowledge(self) -> None:
        self.write(0x14, 0xA << 28)

    def command(self, *words: int, count: int = 1) -> list[int]:
        """qlge_mailbox_command; nothing else may be pending."""
        self.write(0x38, 1 << 16)
        for number, word in enumerate(words):
            self.write_behind(0, 0x1180 + number, word)
        self.write(0x14, 5 << 28)
        assert self.status() & 2
        answer = self.message(count)
        self.acknowledge()
        self.write(0x38, 1 << 16 | 1)
        return answer

    # Memory

    def alloc(self, size: int, align: int = PAGE) -> int:
        """:return: a guest address."""
        self.used = -(-self.used // align) * align + size
        assert self.used <= RAM
        return BASE + self.used - size

    def peek(self, address: int, size: int) -> bytes:
        return self.ram[address - BASE : address - BASE + size]

    def poke(self, address: int, data: bytes) -> None:
        self.ram[address - BASE : address - BASE + len(data)] = data

    # Bringing it up

    def up(self) -> None:
        """qlge_adapter_up, with vector n for ring n and for the completions of work queue n."""
        self.write(0x0C, 1 << 31 | 1 << 15)
        self.used, self.rx, self.tx, self.work, self.produced = 0, [], [], [], []
        for number in range(self.rings):
            self.rx.append(self._start_ring(number, inbound=True))
        for number in range(self.rings):
            self.tx.append(self._start_ring(self.rings + number, inbound=False))
        if self.rings > 1:
            self.start_rss()
        for number in range(self.rings):
            self._start_work(number)
        self.set_mac(MAC)
        self.routes()
        for ring in self.rx:
            self.refill(ring.sbq)
            self.refill(ring.lbq)
        self.write(0x34, 1 << 30 | 1 << 14)
        for vector in range(self.rings):
            self.enable(vector)
        self.write(0x38, 1 << 16 | 1)

    def load(self, block: bytes, bit: int, queue: int) -> bool:
        """qlge_write_cfg. :return: whether the NIC took it."""
        address = self.alloc(len(block), 64)
        self.poke(address, block)
        return self.load_at(address, bit, queue)

    def load_at(self, address: int, bit: int, queue: int) -> bool:
        self.write(0x20, address & 0xFFFFFFFF)
        self.write(0x24, address >> 32)
        self.write(0x28, 0x7F000000 | bit << 16 | bit | queue << 8)
        return not self.read(0x28) & 0x20

    def _start_ring(self, number: int, *, inbound: bool) -> Ring:
        shadow = self.alloc(64, 64)
        self.poke(shadow, bytes(64))
        ring = Ring(number, self.alloc(CQ_LENGTH * 64), shadow)
        flags, large, small = 0x80 | 0x08 | 0x40, (0, 0, 0), (0, 0, 0)
        if inbound:
            flags |= 0x20 | 0x10
            ring.lbq = self._buffers(shadow + 8, self.large, number, 0x18)
            ring.sbq = self._buffers(shadow + 16, SMALL, number, 0x1C)
            large = (ring.lbq.table, self.large, BQ_LENGTH)
            small = (ring.sbq.table, SMALL, BQ_LENGTH)
        vector = number % self.rings
        block = pack("<BBBBHHQQHH", vector, 0, 0, flags, CQ_LENGTH | 0x10, 0, ring.base, shadow, 5, 100)
        block += pack("<QHHQHH", *large, *small)
        assert self.load(block, 0x40, number)
        return ring

    def _buffers(self, table: int, size: int, number: int, word: int) -> Buffers:
        base, pool = self.alloc(BQ_LENGTH * 8), self.alloc(BQ_LENGTH * size)
        self.poke(table, pack("<Q", base))
        return Buffers(size, PAGE * number + word, table, base, pool)

    def start_rss(self, base: int = 0, flags: int = 0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x80) -> None:
        queues = bytes(number & (self.rings - 1) for number in range(1024))
        assert self.load(pack("<BBH", 0x80 | base, flags, 0x3FF) + queues + SEED + SEED[:16], 4, 0)

    def _start_work(self, number: int) -> None:
        shadow = self.alloc(8, 8)
        self.work.append(self.alloc(WQ_LENGTH * 128))
        self.produced.append(0)
        block = pack("<HHHHQQ", WQ_LENGTH | 0x10, 0xF000, self.rings + number, 0, self.work[number], shadow)
        assert self.load(block, 1, number)

    def set_mac(self, mac: bytes) -> None:
        """qlge_set_mac_addr"""
        for word, value in enumerate((mac[2:].hex(), mac[:2].hex(), "1")):
            self.write(0xA8, word)
            self.write(0xAC, int(value, 16))

    def add_multicast(self, mac: bytes, index: int = 0) -> None:
        for word, value in enumerate((mac[2:].hex(), mac[:2].hex())):
            self.write(0xA8, 1 << 27 | 1 << 16 | index << 4 | word)
            self.write(0xAC, int(value, 16))
        self.route(4, 0x300000, 1 << 2)

    def route(self, slot: int, destination: int, mask: int) -> None:
        """qlge_set_routing_reg"""
        self.write(0xE4, destination | 0x20000 | slot << 8 | (EXCLUSIVE if mask else 0))
        self.write(0xE8, mask)

    def routes(self) -> None:
        """qlge_route_initialize"""
        for slot in range(16):
            self.route(slot, 0x300000, 0)
        self.route(1, 0x300000, 1 << 25)
        self.route(2, 0x300000, 1 << 24)
        self.route(3, 0x300000, 1 << 0)
        if self.rings > 1:
            self.route(8, 0, 1 << 31)
        self.route(12, 0x100000, 1 << 7)

    # Interrupts

    def enable(self, vector: int) -> None:
        self.write(0x34, 0x03000000 | 0x007F0000 | 0x20000000 | 0x2000 | 0x100 | vector)

    def interrupts(self, vector: int = 0) -> int:
        """How often the vector was signalled since the last question."""
        try:
            return os.eventfd_read(self.eventfds[vector])
        except BlockingIOError:
            return 0

    # Receiving

    def refill(self, queue: Buffers | None, limit: int = BQ_LENGTH) -> None:
        """qlge_refill_bq, which gets at most so many buffers."""
        assert queue
        want = ((queue.next_to_clean - 1 & -16) - queue.next_to_use) % BQ_LENGTH
        index = queue.next_to_use
        for _ in range(min(want, limit)):
            if index not in queue.posted:
                queue.posted[index] = queue.pool + index * queue.size
                self.poke(queue.base + 8 * index, pack("<Q", queue.posted[index]))
            index = (index + 1) % BQ_LENGTH
        if index & -16 != queue.next_to_use & -16:
            pack_into("<I", self.inbound, queue.doorbell, index)
        queue.next_to_use = index

    def poll(self, number: int = 0, *, refill: bool = True) -> list[tuple[bytes, Completion]]:
        """qlge_clean_inbound_rx_ring. :return: frames with their completions."""
        ring = self.rx[number]
        assert ring.lbq and ring.sbq
        found = []
        while ring.consumer != unpack_from("<I", self.peek(ring.shadow, 4))[0]:
            entry = Completion._make(RECEIVED.unpack_from(self.peek(ring.base + 64 * ring.consumer, 64)))
            assert entry.opcode == 0x20
            found.append((self._frame(ring.lbq, ring.sbq, entry), entry))
            ring.consumer = (ring.consumer + 1) % CQ_LENGTH
        if refill:
            self.refill(ring.sbq)
            self.refill(ring.lbq)
        pack_into("<I", self.inbound, PAGE * number, ring.consumer)
        return found

    def _frame(self, lbq: Buffers, sbq: Buffers, entry: Completion) -> bytes:
        if entry.flags3 & 0x40:
            return self._buffer(sbq, entry.length)
        if entry.flags3 & 0x80:
            return self._buffer(lbq, entry.length)
        rest, data = entry.length, b""
        listed = self._buffer(sbq, SMALL)
        while rest:
            address = lbq.posted[lbq.next_to_clean]
            assert unpack_from("<Q", listed, 8 * (len(data) // lbq.size))[0] == address
            data += self._buffer(lbq, min(rest, lbq.size))
            rest = entry.length - len(data)
        return data

    def _buffer(self, queue: Buffers, size: int) -> bytes:
        address = queue.posted.pop(queue.next_to_clean)
        queue.next_to_clean = (queue.next_to_clean + 1) % BQ_LENGTH
        return self.peek(address, size)

    # Sending

    def send(
        self,
        parts: list[bytes],
        *,
        queue: int = 0,
        opcode: int = 1,
        flags2: int = 0,
        flags3: int = 0,
        headers: int = 0,
        offsets: int = 0,
        vlan: int = 0,
        mss: int = 0,
        length: int | None = None,
        kick: bool = True,
    ) -> int:
        """qlge_send. :return: the transaction."""
        slot = self.produced[queue]
        descriptors = []
        for part in parts:
            address = self.alloc(len(part), 1)
            self.poke(address, part)
            descriptors.append((address, len(part)))
        total = sum(map(len, parts)) if length is None else length
        head = pack("<BBBB8xIIIHH", opcode, 0, flags2, flags3, total, slot, queue, headers, offsets)
        block = head + pack("<HH", vlan, mss) + self._descriptors(descriptors)
        self.poke(self.work[queue] + 128 * slot, block.ljust(128, b"\0"))
        self.produced[queue] = (slot + 1) % WQ_LENGTH
        if kick:
            self.client.write32(BAR3, PAGE * queue, self.produced[queue])
        return slot

    def _descriptors(self, found: list[tuple[int, int]]) -> bytes:
        """qlge_map_send: what does not fit into eight goes into a list of its own."""
        head, rest = (found, []) if len(found) <= 8 else (found[:7], found[7:])
        words = [(address, size) for address, size in head]
        if rest:
            oal = self._marked(rest)
            address = self.alloc(len(oal), 16)
            self.poke(address, oal)
            return b"".join(pack("<QI", *each) for each in words) + pack("<QI", address, len(oal) | 1 << 30)
        return self._marked(words)

    def _marked(self, found: list[tuple[int, int]]) -> bytes:
        last = found[-1]
        return b"".join(pack("<QI", *each) for each in found[:-1]) + pack("<QI", last[0], last[1] | 1 << 31)

    def sent(self, queue: int = 0) -> list[tuple[int, int, int, int]]:
        """qlge_clean_outbound_rx_ring. :return: opcode, flags1, transaction and queue of what was sent."""
        ring = self.tx[queue]
        found = []
        while ring.consumer != unpack_from("<I", self.peek(ring.shadow, 4))[0]:
            found.append(unpack_from("<BBxxII", self.peek(ring.base + 64 * ring.consumer, 64)))
            ring.consumer = (ring.consumer + 1) % CQ_LENGTH
        pack_into("<I", self.inbound, PAGE * ring.number, ring.consumer)
        return found
