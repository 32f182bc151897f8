# SPDX-License-Identifier: GPL-2.0-only
"""Frames that arrive, and what a receiver makes of frames that were sent."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from struct import pack

from tests.vm.models.qlge_nic.driver import MAC
from vm.wire.frames import checksum, udp

SOURCE = bytes.fromhex("5254000000ff")


def to(destination: bytes, size: int) -> bytes:
    """A frame of no protocol that the NIC knows, with random content."""
    return destination + SOURCE + b"\x88\xb5" + os.urandom(size - 14)


def datagram(size: int, port: int = 9000) -> bytes:
    return udp(size, dst_mac=MAC.hex(":"), port=port)


def tcp(
    data: bytes, *, ports: tuple[int, int] = (1, 2), sequence: int = 1000, flags: int = 0x18, version: int = 4
) -> bytes:
    """A TCP segment over IPv4 or IPv6 with right checksums."""
    addresses, ip = _addresses(version)
    head = pack("!HHIIBBHHH", *ports, sequence, 0, 0x50, flags, 1000, 0, 0)
    length = len(head) + len(data)
    total = checksum(addresses + pack("!II", length, 6) + head + data)
    return MAC + SOURCE + ip(length) + head[:16] + pack("!H", total) + head[18:] + data


def _addresses(version: int) -> tuple[bytes, Callable[[int], bytes]]:
    """:return: source and destination, and what makes type and IP header for so many bytes behind it."""
    if version == 6:
        pair = b"".join(ipaddress.ip_address(each).packed for each in ("2001:db8::1", "2001:db8::2"))
        return pair, lambda length: pack("!HIHBB", 0x86DD, 6 << 28, length, 6, 64) + pair
    pair = b"".join(ipaddress.ip_address(each).packed for each in ("192.0.2.2", "192.0.2.1"))

    def ip(length: int) -> bytes:
        head = pack("!BBHHHBBH", 0x45, 0, 20 + length, 7, 0x4000, 64, 6, 0) + pair
        return b"\x08\0" + head[:10] + pack("!H", checksum(head)) + head[12:]

    return pair, ip
