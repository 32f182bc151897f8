# SPDX-License-Identifier: GPL-2.0-only
"""Ethernet frames that carry UDP over IPv4 (RFC 768, RFC 791), with the checksums that a receiver checks."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence

HEADERS = 14 + 20 + 8
#: Addresses reserved for documentation (RFC 5737): no such host is ever reached.
SOURCE, DESTINATION = "192.0.2.2", "192.0.2.1"
SOURCE_MAC = "52:54:00:ff:ff:01"
SOURCE_PORT = 9


def udp(
    size: int,
    *,
    dst_mac: str,
    port: int,
    src: str = SOURCE,
    dst: str = DESTINATION,
    content: bytes = b"rx-stall ",
) -> bytes:
    """Return one frame of `size` bytes, without the frame check sequence.

    :param content: of the datagram, repeated to fill it.
    :raises ValueError: if the size is too small for the headers or too large for IPv4, or an address is none.
    """
    if not HEADERS <= size <= 14 + 0xFFFF:
        raise ValueError(f"a frame has {HEADERS} to {14 + 0xFFFF} bytes, not {size}")
    addresses = ipaddress.IPv4Address(src).packed + ipaddress.IPv4Address(dst).packed
    payload = (content * (size // len(content) + 1))[: size - HEADERS]
    length = 8 + len(payload)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, 64, 17, 0) + addresses
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    datagram = struct.pack("!HHHH", SOURCE_PORT, port, length, 0) + payload
    total = checksum(addresses + struct.pack("!BBH", 0, 17, length) + datagram)
    datagram = datagram[:6] + struct.pack("!H", total or 0xFFFF) + datagram[8:]
    return mac(dst_mac) + mac(SOURCE_MAC) + b"\x08\x00" + header + datagram


def to_ports(size: int, ports: Sequence[int], *, dst_mac: str, dst: str = DESTINATION) -> list[bytes]:
    """Return one frame for each port, to be sent in turn."""
    return [udp(size, dst_mac=dst_mac, port=port, dst=dst) for port in ports]


def mac(text: str) -> bytes:
    """Return the octets of an Ethernet address.

    :raises ValueError: if the text is no Ethernet address.
    """
    octets = bytes.fromhex(text.replace(":", ""))
    if len(octets) != 6:
        raise ValueError(f"{text} is no Ethernet address")
    return octets


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
