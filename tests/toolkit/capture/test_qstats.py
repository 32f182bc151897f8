# SPDX-License-Identifier: GPL-2.0-only
import errno
import socket
import struct
from collections.abc import Callable

import pytest

from toolkit.capture import qstats

RX, TX = 0, 1


def attribute(number: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), number) + value.ljust(-(-len(value) // 4) * 4, b"\0")


def message(kind: int, payload: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), kind, 2, 0, 0) + payload


def of_queue(kind: int, queue: int, **counts: int) -> bytes:
    """Return a message on a queue; small numbers have four bytes."""
    numbers = {"packets": 8, "bytes": 9, "alloc_fail": 12, "later": 99}
    data = struct.pack("=BBH", 12, 1, 0)
    for number, value in ((1, 7), (2, kind), (3, queue)):
        data += attribute(number, struct.pack("=I", value))
    for name, count in counts.items():
        data += attribute(numbers[name], struct.pack("=Q" if count >> 32 else "=I", count))
    return message(29, data)


FAMILY = message(16, struct.pack("=BBH", 1, 2, 0) + attribute(2, b"netdev\0") + attribute(1, b"\x1d\0"))
DONE = message(3, struct.pack("=i", 0))


def refused(error: int) -> bytes:
    return message(2, struct.pack("=i", -error))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[bytes]]:
    """Have the kernel answer in datagrams, one a call; gives what it was asked."""

    def answer(*datagrams: bytes) -> list[bytes]:
        asked: list[bytes] = []
        waiting = list(datagrams)

        class Netlink:
            def __init__(self, *of: int) -> None:
                assert of == (socket.AF_NETLINK, socket.SOCK_RAW, 16)

            def __enter__(self) -> "Netlink":
                return self

            def __exit__(self, *_: object) -> None:
                assert not waiting

            def send(self, data: bytes) -> None:
                asked.append(data)

            def recv(self, _: int) -> bytes:
                return waiting.pop(0)

        monkeypatch.setattr(socket, "socket", Netlink)
        monkeypatch.setattr(socket, "if_nametoindex", lambda name: {"eth1": 7}[name])
        return asked

    return answer


def test_counters_of_rx_queues_come_in_several_datagrams(kernel: Callable[..., list[bytes]]) -> None:
    asked = kernel(
        FAMILY,
        of_queue(RX, 0, packets=5, bytes=1 << 40, later=3) + of_queue(RX, 1, packets=0, alloc_fail=2),
        of_queue(TX, 0) + DONE,
    )
    assert qstats.read("eth1") == {
        0: {"rx-packets": 5, "rx-bytes": 1 << 40},
        1: {"rx-packets": 0, "rx-alloc-fail": 2},
    }
    # Of device 7, by queue, all of them.
    wanted = attribute(1, struct.pack("=I", 7)) + attribute(4, struct.pack("=I", 1))
    assert asked[1] == struct.pack("=IHHII", 36, 29, 0x301, 0, 0) + struct.pack("=BBH", 12, 1, 0) + wanted


@pytest.mark.parametrize(
    "datagrams",
    [
        # Linux before 6.7 has no such family, and one before 6.9 no such command.
        [refused(errno.ENOENT)],
        [FAMILY, refused(errno.EOPNOTSUPP)],
        [FAMILY, message(3, struct.pack("=i", -errno.EOPNOTSUPP))],
    ],
)
def test_who_counts_nothing_has_no_queues(kernel: Callable[..., list[bytes]], datagrams: list[bytes]) -> None:
    kernel(*datagrams)
    assert qstats.read("eth1") == {}


def test_loopback_counts_nothing_on_this_kernel() -> None:
    assert qstats.read("lo") == {}
