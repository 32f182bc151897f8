# SPDX-License-Identifier: GPL-2.0-only
"""The adapter: a PCI device for vfio-user, put together from its parts, and the way of a frame through it."""

from __future__ import annotations

import logging
import mmap
import os
from collections.abc import Callable
from typing import Any

from vm.models.qlge_nic import flash, transmit
from vm.models.qlge_nic.bar1 import Registers
from vm.models.qlge_nic.counts import RingCounts
from vm.models.qlge_nic.headers import examine
from vm.models.qlge_nic.interrupts import Interrupts
from vm.models.qlge_nic.mailbox import Mailbox
from vm.models.qlge_nic.registers import (
    CFG_LCQ,
    CFG_LR,
    DB_PAGE_SIZE,
    DEVICE_ID_8000,
    DOORBELLS_SIZE,
    IB_V,
    MAX_FRAME,
    MSIX_PENDING,
    MSIX_TABLE,
    NIC_RCV_CFG_RV,
    OUTBOUND_QUEUES,
    REGISTERS_SIZE,
    VENDOR_ID,
)
from vm.models.qlge_nic.rings import (
    COMPLETION_CONTROL_SIZE,
    WORK_CONTROL_SIZE,
    CompletionControl,
    CompletionQueue,
    WorkControl,
    WorkQueue,
)
from vm.models.qlge_nic.statistics import Statistics
from vm.models.qlge_nic.steering import RICB, Rss, Steering
from vm.vfio_user import pci
from vm.vfio_user.device import CONFIG_REGION, Device, Region
from vm.vfio_user.irqs import Irqs
from vm.vfio_user.memory import DmaError, GuestMemory

log = logging.getLogger(__name__)

_INBOUND = OUTBOUND_QUEUES * DB_PAGE_SIZE
_ETHERNET, _TAG = 14, 4
_BACKPLANE_ERROR = 0x80
_NETWORK_CONTROLLER, _SUBSYSTEM = 0x020000, 0x8000


class Nic:
    """The adapter, made of its parts.

    :param send: takes each frame that the driver sends.
    :param vectors: of MSI-X; the driver makes as many receive rings, but no more than there are CPUs.
    """

    def __init__(
        self,
        mac: bytes,
        send: Callable[[bytearray], None],
        *,
        device_id: int = DEVICE_ID_8000,
        vectors: int = 8,
        link: bool = True,
    ) -> None:
        self.mac, self.send, self.device_id, self.link = mac, send, device_id, link
        irqs = Irqs(vectors)
        self.interrupts = Interrupts(irqs, self._due)
        self.mailbox = Mailbox(self._event)
        self.steering, self.statistics = Steering(), Statistics()
        self.registers = Registers(self, flash.image(device_id, mac))
        self.counts: dict[int, RingCounts] = {}
        self.filtered = self.unrouted = self.link_down = self.malformed = 0
        self._queues: dict[int, CompletionQueue] = {}
        self._work: dict[int, WorkQueue] = {}
        self._fresh: set[int] = set()
        self._descriptor = os.memfd_create("doorbells", os.MFD_CLOEXEC)
        os.truncate(self._descriptor, DOORBELLS_SIZE)
        self._doorbells = memoryview(mmap.mmap(self._descriptor, DOORBELLS_SIZE))
        self._space = self._configuration(vectors)
        self.device = Device(self._regions(), irqs, self.reset)
        self._generation = self.device.memory.generation

    def close(self) -> None:
        """Remove the device for good."""
        self.reset_function()
        self._doorbells.release()
        os.close(self._descriptor)

    def receive(self, frame: memoryview) -> None:
        """Take a frame from the wire, and perhaps change it; :meth:`announce` after one or several."""
        size = len(frame)
        if not self.link:
            self.link_down += 1
            return
        if not _ETHERNET <= size <= MAX_FRAME:
            self._malformed(size)
            return
        address = bytes(frame[:6])
        self.statistics.rx.count(address, size)
        vlan, tagged = -1, 0
        if frame[12] == 0x81 and frame[13] == 0 and size >= _ETHERNET + _TAG:
            vlan, tagged = frame[14] << 8 | frame[15], IB_V
            if self.steering.receive_config & NIC_RCV_CFG_RV:
                frame[4:16] = bytes(frame[:12])
                frame = frame[4:]
        headers = examine(frame)
        destination = self.steering.find(address, headers) if self.steering.accepts_vlan(vlan) else None
        if destination is None:
            self.filtered += 1
            return
        flags = (
            headers.flags1 | destination.flags1,
            headers.flags2 | destination.flags2 | tagged,
            headers.flags3 | destination.flags3,
        )
        self._deliver(destination.queue, frame, flags, destination.rss, max(vlan, 0))

    def announce(self) -> None:
        """Signal the vectors of the rings that took frames. A frame that was dropped signals nothing."""
        while self._fresh:
            self.interrupts.signal(self._fresh.pop())

    def set_link(self, up: bool) -> None:
        if up != self.link:
            self.link = up
            log.info("link %s", "up" if up else "down")
            self.mailbox.link(up)

    def stats(self) -> dict[str, Any]:
        """Return all counts; times are CLOCK_MONOTONIC, ns."""
        rings = [self._ring_stats(self.counts[number]) for number in sorted(self.counts)]
        return {
            "device": f"{VENDOR_ID:04x}:{self.device_id:04x}",
            "mac": self.mac.hex(":"),
            "link": "up" if self.link else "down",
            "received": self.statistics.rx.frames,
            "sent": self.statistics.tx.frames,
            "filtered": self.filtered,
            "unrouted": self.unrouted,
            "link_down": self.link_down,
            "malformed": self.malformed,
            "rings": rings,
        }

    def load(self, what: int, queue: int, address: int) -> bool:
        """Load a control block that the driver hands over (qlge_write_cfg).

        :return: whether the block, and the ring that it describes, are within reach.
        """
        memory = self.device.memory
        try:
            if what == CFG_LCQ:
                block = memory.read(address, COMPLETION_CONTROL_SIZE)
                self._load_completions(queue, CompletionControl.parse(block))
            elif what == CFG_LR:
                self.steering.rss = Rss(memory.read(address, RICB.size))
                log.info("RSS over the queues %s", sorted(set(self.steering.rss.queues)))
            else:
                work = WorkQueue(queue, WorkControl.parse(memory.read(address, WORK_CONTROL_SIZE)))
                work.bind(memory)
                self._work[queue] = work
                log.info("work queue %d: %d entries", queue, work.length)
        except DmaError as error:
            log.warning("a control block or its ring cannot be reached: %s", error)
            return False
        return True

    def reset_function(self) -> None:
        """Carry out RST_FO_FR: forget the rings; the driver will make others."""
        if self._queues:
            log.info("reset: %d completion queues are gone", len(self._queues))
        for counts in self.counts.values():
            counts.lbq.end()
            counts.sbq.end()
        self._queues.clear()
        self._work.clear()
        self._fresh.clear()
        self.steering.rss = None
        self.interrupts.reset()

    def reset(self) -> None:
        """Reset the PCI device, also because its machine has gone."""
        self.reset_function()
        self.registers.reset()
        ports = self.steering.ports
        self.steering = Steering()
        self.steering.ports = ports
        self.mailbox.forget_messages()

    def busy_queues(self) -> int:
        """Return ISR1: a bit for each completion queue with something to consume."""
        return sum(1 << queue.number for queue in self._queues.values() if queue.waiting()) & 0xFFFFFFFF

    def _deliver(
        self, number: int, frame: memoryview, flags: tuple[int, int, int], rss: int, vlan: int
    ) -> None:
        if self.device.memory.generation != self._generation:
            self._bind_anew()
        queue = self._queues.get(number)
        if queue is None or queue.lbq is None:
            self.unrouted += 1
        elif queue.receive(frame, flags, rss, vlan):
            self._fresh.add(queue.vector)
        else:
            self.statistics.fifo_drops += 1

    def _load_completions(self, number: int, control: CompletionControl) -> None:
        if not control.loads_ring:
            return
        if control.vector >= self.device.irqs.count:
            raise DmaError(f"completion queue {number} is for vector {control.vector}, which is not there")
        counts = RingCounts(number)
        if control.inbound:
            counts = self.counts.setdefault(number, counts)
        queue = CompletionQueue(number, control, self._words, counts)
        queue.bind(self.device.memory)
        self._queues[number] = queue
        sizes = ""
        if queue.lbq and queue.sbq:
            sizes = (
                f", lbq {queue.lbq.length} of {queue.lbq.size} bytes,"
                f" sbq {queue.sbq.length} of {queue.sbq.size}"
            )
        log.info("completion queue %d: %d entries, vector %d%s", number, queue.length, queue.vector, sizes)

    def _transmit(self, work: WorkQueue) -> None:
        """Send the queued frames. The driver makes a completion queue as long as its work queue."""
        if self.device.memory.generation != self._generation:
            self._bind_anew()
        queue = self._queues.get(work.completion_queue)
        if queue is None or work.number not in self._work:
            return
        while not queue.full() and (block := work.next()) is not None:
            request = transmit.Request.parse(block)
            try:
                frames, flags = transmit.frames(request, transmit.gather(block, self.device.memory))
            except DmaError as error:
                log.warning("work queue %d: a frame cannot be reached: %s", work.number, error)
                frames, flags = (), _BACKPLANE_ERROR
            for frame in frames:
                self._put_on_wire(frame)
            queue.sent(request.opcode, flags, request.transaction, request.work_queue)
            work.done()
        self.interrupts.signal(queue.vector)
        self.announce()

    def _put_on_wire(self, frame: bytearray) -> None:
        if self.mailbox.loopback:
            self.receive(memoryview(frame))
        elif self.link:
            self.statistics.tx.count(bytes(frame[:6]), len(frame))
            self.send(frame)
        else:
            self.link_down += 1

    def _malformed(self, size: int) -> None:
        self.malformed += 1
        if size < _ETHERNET:
            self.statistics.rx.undersize += 1
        else:
            self.statistics.rx.oversize += 1

    def _bind_anew(self) -> None:
        """Look all rings up again, since the guest's memory has another map now."""
        memory = self.device.memory
        self._generation = memory.generation
        self._queues = {number: each for number, each in self._queues.items() if _binds(each, memory)}
        self._work = {number: each for number, each in self._work.items() if _binds(each, memory)}

    def _due(self, vector: int) -> bool:
        if vector == 0 and self.mailbox.interrupting and self.registers.events_enabled():
            return True
        return any(queue.vector == vector and queue.waiting() for queue in self._queues.values())

    def _event(self) -> None:
        if self.registers.events_enabled():
            self.interrupts.signal(0)

    def _ring_stats(self, counts: RingCounts) -> dict[str, Any]:
        queue = self._queues.get(counts.ring)
        lbq, sbq = (queue.lbq, queue.sbq) if queue else (None, None)
        return {
            "ring": counts.ring,
            "up": queue is not None,
            "accepted": counts.accepted,
            "dropped_lbq_empty": counts.lbq.dropped,
            "dropped_sbq_empty": counts.sbq.dropped,
            "dropped_cq_full": counts.dropped_cq_full,
            "dropped_dma": counts.dropped_dma,
            "posted_lbq": lbq.posted() if lbq else 0,
            "posted_sbq": sbq.posted() if sbq else 0,
            "completions": queue.waiting() if queue else 0,
            "interrupts": self.device.irqs.fired[queue.vector] if queue else 0,
            "gaps_lbq": counts.lbq.as_json(),
            "gaps_sbq": counts.sbq.as_json(),
            "gaps_forgotten": counts.lbq.forgotten + counts.sbq.forgotten,
        }

    def _configuration(self, vectors: int) -> pci.ConfigurationSpace:
        who = pci.Identity(VENDOR_ID, self.device_id, VENDOR_ID, _SUBSYSTEM, _NETWORK_CONTROLLER)
        capabilities = [pci.msix(vectors, (1, MSIX_TABLE), (1, MSIX_PENDING))]
        return pci.ConfigurationSpace(who, {1: REGISTERS_SIZE, 3: DOORBELLS_SIZE}, capabilities)

    def _regions(self) -> dict[int, Region]:
        mapped = (_INBOUND, DOORBELLS_SIZE - _INBOUND)
        return {
            1: Region(REGISTERS_SIZE, self.registers.read, self.registers.write),
            3: Region(DOORBELLS_SIZE, self._read_doorbell, self._ring_doorbell, self._descriptor, (mapped,)),
            CONFIG_REGION: Region(pci.SIZE, self._space.read, self._space.write),
        }

    @property
    def _words(self) -> memoryview:
        return self._doorbells.cast("I")

    def _read_doorbell(self, offset: int, count: int) -> bytes:
        return bytes(self._doorbells[offset : offset + count])

    def _ring_doorbell(self, offset: int, data: bytes) -> None:
        self._doorbells[offset : offset + len(data)] = data
        number, at = divmod(offset, DB_PAGE_SIZE)
        if at == 0 and len(data) == 4 and (work := self._work.get(number)) is not None:
            work.producer = int.from_bytes(data, "little") % work.length
            self._transmit(work)


def _binds(ring: CompletionQueue | WorkQueue, memory: GuestMemory) -> bool:
    try:
        ring.bind(memory)
    except DmaError as error:
        log.warning("ring %d is not in the guest's memory any more: %s", ring.number, error)
        return False
    return True
