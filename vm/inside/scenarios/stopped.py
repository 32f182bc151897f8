# SPDX-License-Identifier: GPL-2.0-only
"""Genuine: TCP whose receiver was stopped (SIGSTOP), while memory is dirtied faster than swap is.

The second method of the tests in the cover letter of "staging: qlge: Fix rx stall in case of allocation
failures" (2019). Somebody else sends: ``python3 -m vm.scenarios.stopped --send ADDRESS`` in another machine.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from contextlib import ExitStack

from vm.inside import testbed
from vm.inside.testbed import MIB, SO_RCVBUFFORCE

CHUNK = 1 << 20


def main() -> None:
    parser = testbed.options(__doc__ or "")
    testbed.pressure_options(parser)
    parser.add_argument("--send", metavar="ADDRESS", help="be the sender, until killed")
    parser.add_argument("--before", type=float, default=5.0, help="seconds in which the receiver reads")
    parser.add_argument(
        "--after", type=float, default=20.0, help="seconds to go on when memory is free again"
    )
    arguments = parser.parse_args()
    if arguments.send:
        _send(arguments.send, arguments.ports)

    log = testbed.begin("stopped", arguments)
    try:
        with ExitStack() as stack:
            with log.phase("prepare"):
                stack.enter_context(testbed.address(arguments.device, arguments.address))
                stack.enter_context(testbed.sysctl("net.ipv4.tcp_mem", "2000000 2000000 2000000"))
                listeners = [_listen(port, arguments.buffer * MIB) for port in arguments.ports]
                reader = stack.enter_context(testbed.child(lambda: _read(listeners)))
            testbed.stay()
            with log.phase("read"):
                time.sleep(arguments.before)
            with (
                log.phase("pressure", shortage=True),
                testbed.pressure(arguments.dirty * MIB, arguments.min_free),
            ):
                os.kill(reader, signal.SIGSTOP)
                time.sleep(arguments.duration)
            # Still stopped: it is the driver that is to recover, and no new connection may wake it.
            with log.phase("recover"):
                time.sleep(arguments.after)
    finally:
        log.write(arguments.output)


def _listen(port: int, size: int) -> socket.socket:
    """Return a listening socket, whose connections hold `size` bytes that nobody has read."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
    found.bind(("", port))
    found.listen()
    return found


def _read(listeners: list[socket.socket]) -> None:
    """Read all that comes, and throw it away."""
    with selectors.DefaultSelector() as loop:
        for listener in listeners:
            loop.register(listener, selectors.EVENT_READ, listener)
        while True:
            for key, _ in loop.select():
                if key.data:
                    connection, _ = key.data.accept()
                    loop.register(connection, selectors.EVENT_READ)
                elif not _more(key.fd):
                    loop.unregister(key.fileobj)


def _more(connection: int) -> bool:
    """Tell whether something was read."""
    try:
        return bool(os.read(connection, CHUNK))
    except ConnectionError:
        return False


def _send(address: str, ports: range) -> None:
    """Send on a connection to each port as fast as the receiver takes it; one that ends is made anew."""
    zeros = bytes(CHUNK)
    with selectors.DefaultSelector() as loop:
        missing = set(ports)
        while True:
            for port in list(missing):
                try:
                    connection = socket.create_connection((address, port), timeout=2)
                except OSError:
                    time.sleep(0.2)
                    break
                connection.setblocking(False)
                loop.register(connection, selectors.EVENT_WRITE, port)
                missing.discard(port)
            for key, _ in loop.select(0.2 if missing else None):
                try:
                    os.write(key.fd, zeros)
                except BlockingIOError:
                    continue
                except OSError:
                    loop.unregister(key.fileobj)
                    missing.add(key.data)


if __name__ == "__main__":
    main()
