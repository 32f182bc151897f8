# SPDX-License-Identifier: GPL-2.0-only
"""The wire: a pair of unix datagram sockets, one frame a datagram, as QEMU's ``-netdev dgram`` has them."""

from __future__ import annotations

import errno
import selectors
import socket
from pathlib import Path

from vm.models.qlge_nic.nic import Nic

#: The most frames that are read before other descriptors get their turn.
BURST = 64
_LARGEST = 1 << 16
_NOBODY = frozenset({errno.ENOENT, errno.ECONNREFUSED, errno.ENOTSOCK, errno.EPROTOTYPE})


class Wire:
    """The wire. It never waits: a frame that the other side does not take at once is dropped and counted.

    :param local: where frames for the NIC arrive; made here.
    :param peer: where frames of the NIC go; whoever wants them binds it, before or later. None: nowhere.
    :raises OSError: if the socket cannot be made.
    """

    def __init__(self, local: Path, peer: Path | None, loop: selectors.BaseSelector) -> None:
        self.local, self.peer, self.loop = local, str(peer) if peer else None, loop
        self.full = self.nobody = 0
        self._frame = memoryview(bytearray(_LARGEST))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.bind(str(local))
        except OSError:
            self._socket.close()
            raise

    def serve(self, nic: Nic) -> None:
        """Hand frames to the NIC from now on."""

        def receive() -> None:
            self._receive(nic)

        self.loop.register(self._socket, selectors.EVENT_READ, receive)

    def close(self) -> None:
        if self._socket in self.loop.get_map():
            self.loop.unregister(self._socket)
        self._socket.close()
        self.local.unlink(missing_ok=True)

    def send(self, frame: bytearray) -> None:
        if self.peer is None:
            self.nobody += 1
            return
        try:
            self._socket.sendto(frame, self.peer)
        except OSError as error:
            if error.errno in _NOBODY:
                self.nobody += 1
            else:
                self.full += 1

    def _receive(self, nic: Nic) -> None:
        frame, receive_into, receive = self._frame, self._socket.recv_into, nic.receive
        try:
            for _ in range(BURST):
                receive(frame[: receive_into(frame)])
        except BlockingIOError:
            pass
        nic.announce()
