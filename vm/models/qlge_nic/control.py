# SPDX-License-Identifier: GPL-2.0-only
"""A socket to ask a running NIC for its counts, and to take its link down: a line in, a line of JSON out."""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vm.models.qlge_nic.nic import Nic
from vm.models.qlge_nic.wire import Wire

_LONGEST_LINE = 1000


class Control:
    """The listening end of the control socket.

    :raises OSError: if the socket cannot be made.
    """

    def __init__(self, path: Path, nic: Nic, wire: Wire | None, loop: selectors.BaseSelector) -> None:
        self.path, self.nic, self.wire, self.loop = path, nic, wire, loop
        self._clients: set[_Client] = set()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._listener.bind(str(path))
            self._listener.listen()
        except OSError:
            self._listener.close()
            raise
        loop.register(self._listener, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        for client in list(self._clients):
            client.close()
        self.loop.unregister(self._listener)
        self._listener.close()
        self.path.unlink(missing_ok=True)

    def answer(self, words: Sequence[str]) -> dict[str, Any]:
        """Return counts, what was done, or an `error` in a sentence."""
        match words:
            case ["stats"]:
                return self._stats()
            case ["link", "up" | "down" as state]:
                self.nic.set_link(state == "up")
                return {"link": state}
            case ["steer", port, ring] if port.isdecimal() and ring.isdecimal():
                self.nic.steering.ports[int(port)] = int(ring)
                return {"steer": {str(port): ring for port, ring in self.nic.steering.ports.items()}}
            case _:
                return {
                    "error": f"{' '.join(words)!r} is none of stats, link up, link down, steer PORT RING."
                }

    def _stats(self) -> dict[str, Any]:
        wire = {"full": self.wire.full, "nobody": self.wire.nobody} if self.wire else {}
        return {"monotonic_ns": time.monotonic_ns(), **self.nic.stats(), "wire_dropped": wire}

    def _accept(self) -> None:
        try:
            channel, _ = self._listener.accept()
        except OSError:  # gone again
            return
        self._clients.add(_Client(channel, self))

    def forget(self, client: _Client) -> None:
        self._clients.discard(client)


class _Client:
    """One connection: one question, one answer."""

    def __init__(self, channel: socket.socket, control: Control) -> None:
        self.channel, self.control = channel, control
        self.line, self.unsent = b"", memoryview(b"")
        channel.setblocking(False)
        control.loop.register(channel, selectors.EVENT_READ, self.receive)

    def receive(self) -> None:
        try:
            data = self.channel.recv(_LONGEST_LINE)
        except OSError:
            data = b""
        self.line += data
        if not data or len(self.line) > _LONGEST_LINE:
            self.close()
        elif b"\n" in self.line:
            words = self.line.split(b"\n")[0].decode(errors="replace").split()
            self.unsent = memoryview(json.dumps(self.control.answer(words)).encode() + b"\n")
            self.control.loop.modify(self.channel, selectors.EVENT_WRITE, self.send)
            self.send()

    def send(self) -> None:
        try:
            self.unsent = self.unsent[self.channel.send(self.unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self.unsent = memoryview(b"")
        if not self.unsent:
            self.close()

    def close(self) -> None:
        self.control.loop.unregister(self.channel)
        self.channel.close()
        self.control.forget(self)
