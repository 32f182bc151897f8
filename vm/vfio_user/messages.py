# SPDX-License-Identifier: GPL-2.0-only
"""The protocol's messages (docs/interop/vfio-user.rst of QEMU), and how a stream is cut into them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct

#: id, command, size with the header, flags, error
HEADER = Struct("=HHIII")
TYPE_MASK, REPLY, NO_REPLY, ERROR = 0xF, 0x1, 0x10, 0x20

MAJOR, MINOR = 0, 1
#: Bytes of one region access: the protocol's default, which we neither raise nor lower.
MAX_TRANSFER = 1 << 20
#: Descriptors in one message; QEMU sends at most as many.
MAX_DESCRIPTORS = 16
#: No command is larger than a region write of the largest transfer.
MAX_SIZE = HEADER.size + 16 + MAX_TRANSFER


class Command(IntEnum):
    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    DEVICE_GET_INFO = 4
    DEVICE_GET_REGION_INFO = 5
    DEVICE_GET_REGION_IO_FDS = 6
    DEVICE_GET_IRQ_INFO = 7
    DEVICE_SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DMA_READ = 11
    DMA_WRITE = 12
    DEVICE_RESET = 13
    REGION_WRITE_MULTI = 15
    DEVICE_FEATURE = 16


#: major, minor; then JSON that ends with a NUL
VERSION = Struct("=HH")
#: argsz, flags, offset in the file, guest address, size
DMA_MAP = Struct("=IIQQQ")
MAP_READABLE, MAP_WRITEABLE = 1, 2
#: argsz, flags, guest address, size
DMA_UNMAP = Struct("=IIQQ")
UNMAP_ALL = 2
#: argsz, flags, regions, interrupt types
DEVICE_INFO = Struct("=IIII")
DEVICE_RESETS, DEVICE_IS_PCI = 1, 2
#: argsz, flags, index, offset of the first capability, size, offset for mmap
REGION_INFO = Struct("=IIIIQQ")
REGION_READS, REGION_WRITES, REGION_MAPS, REGION_HAS_CAPABILITIES = 1, 2, 4, 8
#: id, version, offset of the next, areas, reserved; then offset and size of each area
SPARSE_MMAP = Struct("=HHIII")
SPARSE_MMAP_ID, SPARSE_MMAP_VERSION = 1, 1
AREA = Struct("=QQ")
#: argsz, flags, index, count
IRQ_INFO = Struct("=IIII")
IRQ_EVENTFD, IRQ_MASKABLE = 1, 2
#: argsz, flags, index, start, count; then a byte for each interrupt where the flags say so
SET_IRQS = Struct("=IIIII")
DATA_NONE, DATA_BOOL, DATA_EVENTFD = 1, 2, 4
ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER = 8, 16, 32
#: offset, region, bytes; then the bytes
REGION_ACCESS = Struct("=QII")
#: writes; then each of them
WRITE_MULTI = Struct("=Q")
#: offset, region, bytes, the bytes in a field of 8
ONE_WRITE = Struct("=QII8s")


class ProtocolError(Exception):
    """An error after which the stream cannot be trusted: the connection has to end."""


@dataclass
class Message:
    """One message. Whoever holds it closes its descriptors, or takes them out."""

    number: int
    command: int
    flags: int
    payload: bytes
    descriptors: list[int] = field(default_factory=list)

    def close(self) -> None:
        close_all(self.descriptors)


def close_all(descriptors: list[int]) -> None:
    """Close and forget the descriptors."""
    while descriptors:
        os.close(descriptors.pop())


class Framing:
    """Cut the bytes that a socket received into messages, and give each its descriptors.

    The kernel ends a read with the data that descriptors were sent along, and the sender sends them with the
    message that they belong to. So the descriptors are of the message in which the read ends.
    """

    def __init__(self, largest: int = MAX_SIZE) -> None:
        self.largest = largest
        self._bytes = bytearray()
        self._descriptors: list[int] = []
        self._arrived: list[int] = []

    def feed(self, data: bytes, descriptors: Iterable[int] = ()) -> Iterator[Message]:
        """Take the bytes of one read.

        :param data: what one read returned, and `descriptors` with it; they are taken over.
        :return: the messages that are complete now. They must be drawn before the next read is fed.
        :raises ProtocolError: if a size is impossible.
        """
        self._arrived = list(descriptors)
        self._bytes += data
        while (message := self._cut()) is not None:
            if not self._bytes:
                message.descriptors += self._arrived
                self._arrived = []
            yield message
        self._descriptors += self._arrived
        self._arrived = []

    def close(self) -> None:
        """Give up what is incomplete, and close its descriptors."""
        self._bytes.clear()
        close_all(self._descriptors)
        close_all(self._arrived)

    def _cut(self) -> Message | None:
        if len(self._bytes) < HEADER.size:
            return None
        number, command, size, flags, _ = HEADER.unpack_from(self._bytes)
        if not HEADER.size <= size <= self.largest:
            raise ProtocolError(f"a message of {size} bytes")
        if len(self._bytes) < size:
            return None
        payload = bytes(memoryview(self._bytes)[HEADER.size : size])
        del self._bytes[:size]
        descriptors, self._descriptors = self._descriptors, []
        return Message(number, command, flags, payload, descriptors)


def command(number: int, what: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """Return a command as the client sends it."""
    return HEADER.pack(number, what, HEADER.size + len(payload), flags, 0) + payload


def reply(to: Message, payload: bytes = b"") -> bytes:
    return HEADER.pack(to.number, to.command, HEADER.size + len(payload), REPLY, 0) + payload


def error(to: Message, number: int) -> bytes:
    """Return a reply with an error.

    :param number: the errno.
    """
    return HEADER.pack(to.number, to.command, HEADER.size, REPLY | ERROR, number)
