# SPDX-License-Identifier: GPL-2.0-only
"""What a driver counts for each of its rx queues: the kernel's own names, for whichever driver (Linux 6.9).

Asked for by netlink: NETDEV_CMD_QSTATS_GET (Documentation/netlink/specs/netdev.yaml).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Iterator

# include/uapi/linux/netlink.h, genetlink.h and netdev.h
_REQUEST, _DUMP = 0x1, 0x300
_ERROR, _DONE = 2, 3
_GENETLINK, _CONTROL, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 16, 3, 1, 2
_QSTATS_GET, _PER_QUEUE, _RX = 12, 1, 0
_IFINDEX, _QUEUE_TYPE, _QUEUE_ID, _SCOPE = 1, 2, 3, 4
_NAMES = {
    8: "rx-packets",
    9: "rx-bytes",
    12: "rx-alloc-fail",
    13: "rx-hw-drops",
    14: "rx-hw-drop-overruns",
    15: "rx-csum-complete",
    16: "rx-csum-unnecessary",
    17: "rx-csum-none",
    18: "rx-csum-bad",
    19: "rx-hw-gro-packets",
    20: "rx-hw-gro-bytes",
    21: "rx-hw-gro-wire-packets",
    22: "rx-hw-gro-wire-bytes",
    23: "rx-hw-drop-ratelimits",
}
_HEADER, _COMMAND, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBH"), struct.Struct("=HH")
#: As much as the kernel puts into one answer at most (NLMSG_GOODSIZE), and more.
_ROOM = 1 << 17


def read(device: str) -> dict[int, dict[str, int]]:
    """Read the counters of a device's rx queues, in this network namespace.

    :return: number of the queue -> name -> count, as far as the driver has them [packets, bytes or failures];
        none of a driver that counts no such thing, nor of a kernel that does not know to ask.
    """
    found: dict[int, dict[str, int]] = {}
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _GENETLINK) as netlink,
    ):
        name = _attribute(_FAMILY_NAME, b"netdev\0")
        (answer,) = _ask(netlink, _CONTROL, _GET_FAMILY, name)
        family = _number(answer[_FAMILY_ID])
        wanted = _attribute(_IFINDEX, struct.pack("=I", socket.if_nametoindex(device)))
        wanted += _attribute(_SCOPE, struct.pack("=I", _PER_QUEUE))
        for answer in _ask(netlink, family, _QSTATS_GET, wanted, _DUMP):
            if _number(answer[_QUEUE_TYPE]) == _RX:
                counts = {name: _number(answer[of]) for of, name in _NAMES.items() if of in answer}
                found[_number(answer[_QUEUE_ID])] = counts
    return found


def _ask(
    netlink: socket.socket, family: int, command: int, attributes: bytes, flags: int = 0
) -> Iterator[dict[int, bytes]]:
    """Send a request, and yield the attributes of each answer.

    :raises OSError: if the kernel refuses.
    """
    payload = _COMMAND.pack(command, 1, 0) + attributes
    length = _HEADER.size + len(payload)
    netlink.send(_HEADER.pack(length, family, _REQUEST | flags, 0, 0) + payload)
    while True:
        data = netlink.recv(_ROOM)
        while data:
            length, kind, *_ = _HEADER.unpack_from(data)
            message, data = data[_HEADER.size : length], data[_aligned(length) :]
            if kind in (_ERROR, _DONE):
                (code,) = struct.unpack_from("=i", message)
                if code:
                    raise OSError(-code, os.strerror(-code))
                return
            yield _attributes(message[_COMMAND.size :])
        if not flags & _DUMP:
            return


def _attribute(number: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, number) + value + bytes(_aligned(length) - length)


def _attributes(data: bytes) -> dict[int, bytes]:
    """Return attributes by number; those in others are not taken apart."""
    found = {}
    while data:
        length, number = _ATTRIBUTE.unpack_from(data)
        found[number & 0x3FFF] = data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]
    return found


def _number(value: bytes) -> int:
    return int.from_bytes(value, sys.byteorder)


def _aligned(length: int) -> int:
    return (length + 3) & ~3
