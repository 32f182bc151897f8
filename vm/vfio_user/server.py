# SPDX-License-Identifier: GPL-2.0-only
"""Serve a device to one client at a time, inside the caller's `selectors` loop.

A message that asks for something wrong is answered with an errno. A message that breaks the stream, or comes
out of order, ends the connection. In either case no descriptor stays behind, and the next client is served.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import selectors
import socket
import struct
from collections import deque
from collections.abc import Callable
from pathlib import Path

from vm.vfio_user import messages as m
from vm.vfio_user.device import IRQ_TYPES, MSIX_INDEX, REGIONS, Device, Region
from vm.vfio_user.messages import Command, Framing, Message, ProtocolError

log = logging.getLogger(__name__)

READ_SIZE = 1 << 16


class Server:
    """The listening unix socket.

    :param path: the socket; nothing may be there.
    :param loop: whose `select` calls what its keys carry as data, without arguments.
    :raises OSError: if the socket cannot be made.
    """

    def __init__(self, path: Path, device: Device, loop: selectors.BaseSelector) -> None:
        self.path, self.device, self.loop = path, device, loop
        self.connection: Connection | None = None
        #: Clients that came and have gone.
        self.served = 0
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self.listener.bind(str(path))
            self.listener.listen(1)
        except OSError:
            self.listener.close()
            raise
        loop.register(self.listener, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close("the server ends")
        self.loop.unregister(self.listener)
        self.listener.close()
        self.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        try:
            channel, _ = self.listener.accept()
        except OSError:  # gone again
            return
        channel.setblocking(False)
        # The next client waits in the backlog until this one has gone.
        self.loop.unregister(self.listener)
        self.connection = Connection(channel, self.device, self.loop, self._gone)
        log.info("a client connected")

    def _gone(self, why: str) -> None:
        self.connection = None
        self.served += 1
        self.loop.register(self.listener, selectors.EVENT_READ, self._accept)
        log.info("the client is gone: %s", why)


class Connection:
    """A client, from its first message to its last."""

    def __init__(
        self,
        channel: socket.socket,
        device: Device,
        loop: selectors.BaseSelector,
        gone: Callable[[str], None],
    ) -> None:
        self.channel, self.device, self.loop, self.gone = channel, device, loop, gone
        self.framing = Framing()
        self.negotiated = False
        self.unsent: deque[tuple[memoryview, list[int]]] = deque()
        self.stuck = False
        loop.register(channel, selectors.EVENT_READ, self.receive)

    def receive(self) -> None:
        """Take the bytes that have arrived, and answer them. While a client does not read its replies, it is
        not read.
        """
        try:
            data, descriptors, flags, _ = socket.recv_fds(
                self.channel, READ_SIZE, m.MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError as error:
            self.close(str(error.strerror))
            return
        try:
            if flags & socket.MSG_CTRUNC:
                m.close_all(descriptors)
                raise ProtocolError("more descriptors than one message may carry")
            for message in self.framing.feed(data, descriptors):
                try:
                    self._handle(message)
                finally:
                    message.close()
        except ProtocolError as error:
            self.close(str(error))
            return
        if not data:
            self.close("it hung up")
        elif self.unsent:
            self.send()

    def send(self) -> None:
        """Send as many waiting bytes as the client takes; descriptors go with a reply's first byte."""
        try:
            while self.unsent:
                data, descriptors = self.unsent[0]
                if descriptors:
                    sent = socket.send_fds(self.channel, [data], descriptors)
                else:
                    sent = self.channel.send(data)
                if sent < len(data):
                    self.unsent[0] = data[sent:], []
                else:
                    self.unsent.popleft()
        except BlockingIOError:
            pass
        except OSError as error:
            self.close(str(error.strerror))
            return
        if bool(self.unsent) != self.stuck:
            self.stuck = bool(self.unsent)
            event, act = (
                (selectors.EVENT_WRITE, self.send) if self.stuck else (selectors.EVENT_READ, self.receive)
            )
            self.loop.modify(self.channel, event, act)

    def close(self, why: str) -> None:
        """Forget the client, with its memory and its eventfds."""
        self.loop.unregister(self.channel)
        self.channel.close()
        self.framing.close()
        self.device.irqs.disable()
        self.device.memory.unmap_all()
        self.device.reset()
        self.gone(why)

    def _handle(self, message: Message) -> None:
        if message.flags & m.TYPE_MASK:
            raise ProtocolError("a reply to nothing, or a type that does not exist")
        if not self.negotiated and message.command != Command.VERSION:
            raise ProtocolError("a command before the version")
        descriptors: list[int] = []
        try:
            if message.command not in _HANDLERS:
                raise OSError(errno.EOPNOTSUPP, "not supported")
            payload, descriptors = _HANDLERS[message.command](self, message)
            answer = m.reply(message, payload)
        except struct.error:
            answer = self._refuse(message, errno.EINVAL, "it is too short")
        except OSError as error:
            answer = self._refuse(message, error.errno or errno.EIO, str(error.strerror))
        if not message.flags & m.NO_REPLY:
            self.unsent.append((memoryview(answer), descriptors))

    def _refuse(self, message: Message, number: int, why: str) -> bytes:
        name = Command(message.command).name if message.command in list(Command) else str(message.command)
        log.info("%s refused: %s", name, why)
        return m.error(message, number)

    def _version(self, message: Message) -> tuple[bytes, list[int]]:
        major, minor = m.VERSION.unpack_from(message.payload)
        if self.negotiated:
            raise OSError(errno.EINVAL, "the version is agreed upon")
        if major != m.MAJOR:
            raise ProtocolError(f"version {major}.{minor}")
        offered = _capabilities(message.payload[m.VERSION.size :])
        ours = {
            "max_msg_fds": m.MAX_DESCRIPTORS,
            "max_data_xfer_size": m.MAX_TRANSFER,
            "write_multiple": True,
        }
        agreed = {name: value for name, value in ours.items() if offered.get(name)}
        text = json.dumps({"capabilities": agreed}, separators=(",", ":")).encode() + b"\0"
        self.negotiated = True
        return m.VERSION.pack(m.MAJOR, min(minor, m.MINOR)) + (text if offered else b""), []

    def _dma_map(self, message: Message) -> tuple[bytes, list[int]]:
        _, flags, offset, address, size = m.DMA_MAP.unpack_from(message.payload)
        if len(message.descriptors) > 1:
            raise OSError(errno.EINVAL, "more than one descriptor")
        descriptor = message.descriptors[0] if message.descriptors else None
        self.device.memory.map(address, size, flags, descriptor, offset)
        return b"", []

    def _dma_unmap(self, message: Message) -> tuple[bytes, list[int]]:
        _, flags, address, size = m.DMA_UNMAP.unpack_from(message.payload)
        if flags & ~m.UNMAP_ALL:
            raise OSError(errno.EOPNOTSUPP, "dirty pages are not tracked")
        if not flags:
            self.device.memory.unmap(address, size)
        elif address or size:
            raise OSError(errno.EINVAL, "all, or a range")
        else:
            self.device.memory.unmap_all()
        return message.payload[: m.DMA_UNMAP.size], []

    def _device_info(self, message: Message) -> tuple[bytes, list[int]]:
        _argsz(m.DEVICE_INFO.unpack_from(message.payload)[0], m.DEVICE_INFO.size)
        flags = m.DEVICE_RESETS | m.DEVICE_IS_PCI
        return m.DEVICE_INFO.pack(m.DEVICE_INFO.size, flags, REGIONS, IRQ_TYPES), []

    def _region_info(self, message: Message) -> tuple[bytes, list[int]]:
        argsz, _, index, *_ = m.REGION_INFO.unpack_from(message.payload)
        _argsz(argsz, m.REGION_INFO.size)
        if index >= REGIONS:
            raise OSError(errno.EINVAL, "there is no such region")
        region = self.device.regions.get(index)
        if region is None:
            return m.REGION_INFO.pack(m.REGION_INFO.size, 0, index, 0, 0, 0), []
        flags = m.REGION_READS | m.REGION_WRITES
        if region.descriptor is None:
            return m.REGION_INFO.pack(m.REGION_INFO.size, flags, index, 0, region.size, 0), []
        sparse = _sparse(region)
        needed = m.REGION_INFO.size + len(sparse)
        flags |= m.REGION_MAPS | m.REGION_HAS_CAPABILITIES
        info = m.REGION_INFO.pack(needed, flags, index, m.REGION_INFO.size, region.size, 0)
        # A client asks first with no room for capabilities, learns the size, and asks again.
        return (info, []) if argsz < needed else (info + sparse, [region.descriptor])

    def _irq_info(self, message: Message) -> tuple[bytes, list[int]]:
        argsz, _, index, _ = m.IRQ_INFO.unpack_from(message.payload)
        _argsz(argsz, m.IRQ_INFO.size)
        if index >= IRQ_TYPES:
            raise OSError(errno.EINVAL, "there is no such type")
        count = self.device.irqs.count if index == MSIX_INDEX else 0
        flags = m.IRQ_EVENTFD | m.IRQ_MASKABLE if count else 0
        return m.IRQ_INFO.pack(m.IRQ_INFO.size, flags, index, count), []

    def _set_irqs(self, message: Message) -> tuple[bytes, list[int]]:
        argsz, flags, index, start, count = m.SET_IRQS.unpack_from(message.payload)
        _argsz(argsz, m.SET_IRQS.size)
        if index != MSIX_INDEX:
            raise OSError(errno.EINVAL, "the device has MSI-X only")
        self.device.irqs.set(flags, start, count, message.payload[m.SET_IRQS.size :], message.descriptors)
        return b"", []

    def _region_read(self, message: Message) -> tuple[bytes, list[int]]:
        offset, index, count = m.REGION_ACCESS.unpack_from(message.payload)
        data = self._region(index, offset, count).read(offset, count)
        return m.REGION_ACCESS.pack(offset, index, count) + data, []

    def _region_write(self, message: Message) -> tuple[bytes, list[int]]:
        offset, index, count = m.REGION_ACCESS.unpack_from(message.payload)
        data = message.payload[m.REGION_ACCESS.size :]
        if len(data) != count:
            raise OSError(errno.EINVAL, f"{len(data)} bytes instead of {count}")
        self._region(index, offset, count).write(offset, data)
        return m.REGION_ACCESS.pack(offset, index, count), []

    def _write_multi(self, message: Message) -> tuple[bytes, list[int]]:
        (writes,) = m.WRITE_MULTI.unpack_from(message.payload)
        if len(message.payload) != m.WRITE_MULTI.size + writes * m.ONE_WRITE.size:
            raise OSError(errno.EINVAL, "the size does not fit the number of writes")
        for offset, index, count, data in m.ONE_WRITE.iter_unpack(message.payload[m.WRITE_MULTI.size :]):
            if count > len(data):
                raise OSError(errno.EINVAL, "a write of more than 8 bytes")
            self._region(index, offset, count).write(offset, data[:count])
        return m.WRITE_MULTI.pack(writes), []

    def _reset(self, _: Message) -> tuple[bytes, list[int]]:
        self.device.reset()
        return b"", []

    def _region(self, index: int, offset: int, count: int) -> Region:
        region = self.device.regions.get(index)
        if region is None or offset + count > region.size or not 0 < count <= m.MAX_TRANSFER:
            raise OSError(errno.EINVAL, f"{count} bytes at {offset:#x} are not in region {index}")
        return region


_HANDLERS: dict[int, Callable[[Connection, Message], tuple[bytes, list[int]]]] = {
    Command.VERSION: Connection._version,
    Command.DMA_MAP: Connection._dma_map,
    Command.DMA_UNMAP: Connection._dma_unmap,
    Command.DEVICE_GET_INFO: Connection._device_info,
    Command.DEVICE_GET_REGION_INFO: Connection._region_info,
    Command.DEVICE_GET_IRQ_INFO: Connection._irq_info,
    Command.DEVICE_SET_IRQS: Connection._set_irqs,
    Command.REGION_READ: Connection._region_read,
    Command.REGION_WRITE: Connection._region_write,
    Command.REGION_WRITE_MULTI: Connection._write_multi,
    Command.DEVICE_RESET: Connection._reset,
}


def _argsz(given: int, needed: int) -> None:
    if given < needed:
        raise OSError(errno.EINVAL, f"room for {given} bytes of {needed}")


def _capabilities(text: bytes) -> dict[str, object]:
    """Check the capabilities that a client sends with its version.

    :raises ProtocolError: if there is something that is no JSON object of capabilities.
    """
    if not text:
        return {}
    with contextlib.suppress(ValueError, RecursionError, AttributeError):
        found = json.loads(text.removesuffix(b"\0")).get("capabilities", {})
        if isinstance(found, dict):
            return found
    raise ProtocolError("capabilities that are none")


def _sparse(region: Region) -> bytes:
    head = m.SPARSE_MMAP.pack(m.SPARSE_MMAP_ID, m.SPARSE_MMAP_VERSION, 0, len(region.areas), 0)
    return head + b"".join(m.AREA.pack(*area) for area in region.areas)
