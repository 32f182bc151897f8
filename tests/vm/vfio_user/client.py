# SPDX-License-Identifier: GPL-2.0-only
"""A vfio-user client for tests: it talks over a real socket, and turns the server's loop itself."""

import json
import os
import selectors
import socket
from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from typing import Any

from vm.vfio_user import messages as m
from vm.vfio_user.messages import Command

_REPLY_SIZE = 1 << 21


class RefusedError(Exception):
    """An error reply; `number` is its errno."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


def turn(loop: selectors.BaseSelector) -> None:
    """Let the server do all that it can do now."""
    while ready := loop.select(0):
        for key, _ in ready:
            key.data()


class Client:
    """:param loop: the server's."""

    def __init__(self, path: Path, loop: selectors.BaseSelector) -> None:
        self.loop = loop
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))
        self.socket.settimeout(5)
        self.number = 0
        turn(loop)

    def close(self) -> None:
        self.socket.close()
        turn(self.loop)

    def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        socket.send_fds(self.socket, [data], list(descriptors))
        turn(self.loop)

    def hung_up(self) -> bool:
        """Whether the server has ended the connection."""
        turn(self.loop)
        self.socket.setblocking(False)
        try:
            return self.socket.recv(1) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True
        finally:
            self.socket.settimeout(5)

    def reply(self) -> tuple[int, bytes, list[int]]:
        """:return: the number of the message that it answers, its payload, its descriptors.

        :raises RefusedError: if it is an error.
        """
        data, descriptors, *_ = socket.recv_fds(self.socket, m.HEADER.size, 1)
        number, _, size, flags, error = m.HEADER.unpack(data)
        assert flags & m.TYPE_MASK == m.REPLY
        payload = b""
        while len(payload) < size - m.HEADER.size:
            turn(self.loop)
            payload += self.socket.recv(size - m.HEADER.size - len(payload))
        if flags & m.ERROR:
            assert not payload
            raise RefusedError(error)
        return number, payload, descriptors

    def call(self, command: int, payload: bytes = b"", descriptors: Sequence[int] = ()) -> bytes:
        """Send a command and wait for its answer, which has no descriptors."""
        answer, received = self.call_fds(command, payload, descriptors)
        assert not received
        return answer

    def call_fds(
        self, command: int, payload: bytes = b"", descriptors: Sequence[int] = ()
    ) -> tuple[bytes, list[int]]:
        self.number += 1
        self.send(m.command(self.number, command, payload), descriptors)
        number, answer, received = self.reply()
        assert number == self.number
        return answer, received

    def negotiate(self, **capabilities: Any) -> dict[str, Any]:
        """As QEMU does. :return: the capabilities that the server agreed to."""
        offered = {"max_msg_fds": 16, "max_data_xfer_size": 1 << 20, "write_multiple": True, **capabilities}
        text = json.dumps({"capabilities": offered}).encode() + b"\0"
        answer = self.call(Command.VERSION, m.VERSION.pack(0, 1) + text)
        assert answer.endswith(b"\0")
        found: dict[str, Any] = json.loads(answer[m.VERSION.size : -1])
        return dict(found["capabilities"])

    def map(self, start: int, size: int, descriptor: int | None = None, offset: int = 0) -> None:
        flags = m.MAP_READABLE | m.MAP_WRITEABLE
        request = m.DMA_MAP.pack(m.DMA_MAP.size, flags, offset, start, size)
        self.call(Command.DMA_MAP, request, [] if descriptor is None else [descriptor])

    def unmap(self, start: int, size: int, flags: int = 0) -> None:
        request = m.DMA_UNMAP.pack(m.DMA_UNMAP.size, flags, start, size)
        assert self.call(Command.DMA_UNMAP, request) == request

    def region_info(self, index: int) -> tuple[Any, bytes, list[int]]:
        """As QEMU does: ask for the fixed part, then for as much as there is."""
        argsz = m.REGION_INFO.size
        while True:
            request = m.REGION_INFO.pack(argsz, 0, index, 0, 0, 0)
            answer, descriptors = self.call_fds(Command.DEVICE_GET_REGION_INFO, request)
            info = m.REGION_INFO.unpack_from(answer)
            if info[0] <= argsz:
                return info, answer[m.REGION_INFO.size :], descriptors
            assert len(answer) <= argsz and not descriptors
            argsz = info[0]

    def irqs(
        self, flags: int, start: int, count: int, data: bytes = b"", descriptors: Sequence[int] = ()
    ) -> None:
        request = m.SET_IRQS.pack(m.SET_IRQS.size + len(data), flags, 2, start, count) + data
        self.call(Command.DEVICE_SET_IRQS, request, descriptors)

    def read(self, region: int, offset: int, count: int) -> bytes:
        head = m.REGION_ACCESS.pack(offset, region, count)
        answer = self.call(Command.REGION_READ, head)
        assert answer[: len(head)] == head
        return answer[len(head) :]

    def write(self, region: int, offset: int, data: bytes) -> None:
        head = m.REGION_ACCESS.pack(offset, region, len(data))
        assert self.call(Command.REGION_WRITE, head + data) == head

    def read32(self, region: int, offset: int) -> int:
        return int(_WORD.unpack(self.read(region, offset, 4))[0])

    def write32(self, region: int, offset: int, value: int) -> None:
        self.write(region, offset, _WORD.pack(value))


_WORD = Struct("<I")
