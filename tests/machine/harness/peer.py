# SPDX-License-Identifier: GPL-2.0-only
"""The other end of a NIC's wire: a host that answers ARP and pings, and keeps the UDP that it gets."""

from __future__ import annotations

import queue
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

from vm.wire import frames

_ARP, _IPV4 = b"\x08\x06", b"\x08\x00"
_ICMP, _UDP = 1, 17
_ECHO_REQUEST = 8


class Peer:
    """What is at `frames.SOURCE`, as `frames.SOURCE_MAC`.

    :param wire: where frames for the NIC go in.
    :param own: where the NIC's frames come out; made here.
    """

    def __init__(self, wire: Path, own: Path) -> None:
        self._wire = str(wire)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(own))
        self._socket.settimeout(0.2)
        self._ended = threading.Event()
        self.datagrams: queue.Queue[bytes] = queue.Queue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        own = self._socket.getsockname()
        self._socket.close()
        Path(own).unlink()

    def send(self, frame: bytes) -> None:
        self._socket.sendto(frame, self._wire)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                frame = self._socket.recv(1 << 16)
            except TimeoutError:
                continue
            if answer := self._answer(frame):
                self.send(answer)

    def _answer(self, frame: bytes) -> bytes | None:
        """:return: the frame that goes back, if one does."""
        kind, packet = frame[12:14], frame[14:]
        head = frame[6:12] + frames.mac(frames.SOURCE_MAC) + kind
        if kind == _ARP and packet[24:28] == IPv4Address(frames.SOURCE).packed and packet[7] == 1:
            own = frames.mac(frames.SOURCE_MAC) + packet[24:28]
            return head + packet[:6] + b"\0\x02" + own + packet[8:18]
        if kind != _IPV4:
            return None
        length = int.from_bytes(packet[2:4])
        start = 4 * (packet[0] & 0xF)
        inside = packet[start:length]
        if packet[9] == _UDP:
            self.datagrams.put(inside[8:])
        if packet[9] == _ICMP and inside[0] == _ECHO_REQUEST:
            # With source and destination exchanged the header's checksum stays what it was.
            back = packet[:12] + packet[16:20] + packet[12:16] + packet[20:start]
            bare = b"\0\0\0\0" + inside[4:]
            return head + back + bare[:2] + struct.pack("!H", frames.checksum(bare)) + bare[4:]
        return None


@contextmanager
def peer(wire: Path, own: Path) -> Iterator[Peer]:
    """A peer for the length of the block."""
    found = Peer(wire, own)
    try:
        yield found
    finally:
        found.close()
