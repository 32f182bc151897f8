# SPDX-License-Identifier: GPL-2.0-only
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from vm.inside import xen
from vm.inside.scenarios import bulk


class Sink(threading.Thread):
    """A guest that throws away what it is sent, unless it is lazy, and counts it."""

    def __init__(self, listener: socket.socket, *, lazy: bool) -> None:
        super().__init__(daemon=True)
        self.received = 0
        self.done = threading.Event()
        self._listener = listener
        self._lazy = lazy

    def run(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            if self._lazy:
                self.done.wait(30)
                return
            try:
                while data := connection.recv(1 << 20):
                    self.received += len(data)
            except ConnectionResetError:
                pass


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        monkeypatch.setattr(xen, "SINK", found.getsockname()[1])
        yield found


def test_copy_counts_what_was_acknowledged_and_ends_in_time(listener: socket.socket) -> None:
    sink = Sink(listener, lazy=False)
    sink.start()
    began = time.monotonic()
    acknowledged = bulk._copy("127.0.0.1", 0.2)
    assert 0.2 <= time.monotonic() - began < 5
    sink.join(10)
    assert acknowledged > bulk.CHUNK
    # TCP acknowledges before the receiver reads, and the FIN of a closed connection counts as a byte.
    assert sink.received == pytest.approx(acknowledged, rel=0.5)


def test_copy_to_a_receiver_that_does_not_read_ends_in_time(listener: socket.socket) -> None:
    sink = Sink(listener, lazy=True)
    sink.start()
    began = time.monotonic()
    acknowledged = bulk._copy("127.0.0.1", 0.3)
    assert 0.3 <= time.monotonic() - began < 5
    sink.done.set()
    sink.join(10)
    # No more than fits the socket's buffer.
    assert 0 < acknowledged < 64 << 20
