# SPDX-License-Identifier: GPL-2.0-only
import os
import signal
import socket
import time

import pytest

from vm.inside import testbed
from vm.inside.scenarios import stopped


def test_more_is_read_until_the_connection_ends() -> None:
    near, far = socket.socketpair()
    with near, far:
        far.sendall(b"x")
        assert stopped._more(near.fileno())
        far.close()
        assert not stopped._more(near.fileno())


def _ports(count: int) -> range:
    """Return ports in a row that nobody listens on."""
    for first in range(20_000, 60_000, count):
        found = []
        try:
            for port in range(first, first + count):
                found.append(socket.create_server(("127.0.0.1", port)))
        except OSError:
            continue
        finally:
            for each in found:
                each.close()
        return range(first, first + count)
    raise OSError("no ports")


def _fill(connections: list[socket.socket]) -> int:
    """Send to connections that do not block until none takes more; return how many bytes that were."""
    sent, quiet = 0, 0
    while quiet < 10:
        before = sent
        for connection in connections:
            try:
                sent += connection.send(bytes(1 << 16))
            except BlockingIOError:
                continue
        quiet = 0 if sent > before else quiet + 1
        time.sleep(0.01)
    return sent


def test_reader_takes_all_that_comes_until_it_is_stopped() -> None:
    ports = _ports(2)
    listeners = [socket.create_server(("127.0.0.1", port)) for port in ports]
    with testbed.child(lambda: stopped._read(listeners)) as reader:
        connections = [socket.create_connection(("127.0.0.1", port), timeout=10) for port in ports]
        for connection in connections:
            # More than the sockets hold.
            connection.sendall(bytes(8 << 20))
            connection.setblocking(False)
        os.kill(reader, signal.SIGSTOP)
        # One that ended does not end the reader either.
        connections.pop().close()
        held = _fill(connections)
        assert held < 64 << 20
        os.kill(reader, signal.SIGCONT)
        connections[0].settimeout(10)
        connections[0].sendall(bytes(held + (8 << 20)))
    for each in (*connections, *listeners):
        each.close()


@pytest.mark.timeout(60)
def test_sender_connects_to_each_port_and_again_when_one_ends() -> None:
    ports = _ports(2)
    with testbed.child(lambda: stopped._send("127.0.0.1", ports)):
        # Nobody listens yet: it tries until somebody does.
        time.sleep(0.1)
        listeners = [socket.create_server(("127.0.0.1", port)) for port in ports]
        for listener in listeners:
            listener.settimeout(20)
        for _ in range(2):
            connections = [listener.accept()[0] for listener in listeners]
            for connection in connections:
                connection.settimeout(20)
                assert connection.recv(1 << 16).strip(b"\0") == b""
                connection.close()
    for listener in listeners:
        listener.close()
