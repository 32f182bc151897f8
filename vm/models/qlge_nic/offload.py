# SPDX-License-Identifier: GPL-2.0-only
"""Work that the driver leaves to the NIC when it sends: VLAN tags, checksums, and cutting a large frame
(TSO).
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import pack_into, unpack_from

from vm.models.qlge_nic.headers import TCP, VLAN

_IP_CHECKSUM, _TCP_CHECKSUM, _UDP_CHECKSUM = 10, 16, 6
_FIN_PSH, _CWR = 0x09, 0x80


def tag(frame: bytearray, vlan: int) -> None:
    """Put a VLAN tag into the frame."""
    frame[12:12] = VLAN.to_bytes(2, "big") + vlan.to_bytes(2, "big")


def fill_checksum(frame: bytearray, transport: int, protocol: int) -> None:
    """Complete the checksum of a TCP segment or UDP datagram that ends the frame.

    :param transport: where the segment or datagram begins. Its checksum field holds the sum of the pseudo
        header (qlge_hw_csum_setup).
    """
    at = transport + (_TCP_CHECKSUM if protocol == TCP else _UDP_CHECKSUM)
    value = _sum(frame[transport:])
    pack_into("!H", frame, at, value if protocol == TCP else value or 0xFFFF)


def segments(frame: bytearray, network: int, transport: int, headers: int, mss: int) -> Iterator[bytearray]:
    """Cut a TCP frame into segments of `mss` bytes of data, with all their checksums (qlge_tso).

    :param network: where IP begins; `transport`, where TCP does; `headers`, the length of all headers.
    """
    (sequence,) = unpack_from("!I", frame, transport + 4)
    (pseudo,) = unpack_from("!H", frame, transport + _TCP_CHECKSUM)
    is_ipv4 = frame[network] >> 4 == 4
    (identification,) = unpack_from("!H", frame, network + 4)
    for number, at in enumerate(range(headers, len(frame), mss)):
        segment = frame[:headers] + frame[at : at + mss]
        last = at + mss >= len(frame)
        if is_ipv4:
            pack_into("!HH", segment, network + 2, len(segment) - network, identification + number & 0xFFFF)
            fill_ip_checksum(segment, network)
        else:
            pack_into("!H", segment, network + 4, len(segment) - network - 40)
        pack_into("!I", segment, transport + 4, sequence + at - headers & 0xFFFFFFFF)
        segment[transport + 13] &= ~((0 if last else _FIN_PSH) | (_CWR if number else 0))
        # The driver's sum of the pseudo header leaves out the length: each segment has another.
        length = len(segment) - transport
        pack_into("!H", segment, transport + _TCP_CHECKSUM, (pseudo + length) % 0xFFFF)
        fill_checksum(segment, transport, TCP)
        yield segment


def fill_ip_checksum(frame: bytearray, network: int) -> None:
    """Set the checksum of the IPv4 header that begins at `network`."""
    pack_into("!H", frame, network + _IP_CHECKSUM, 0)
    value = _sum(frame[network : network + (frame[network] & 15) * 4])
    pack_into("!H", frame, network + _IP_CHECKSUM, value)


def _sum(data: bytearray) -> int:
    """Return the checksum (RFC 1071) of data whose own checksum field counts as it is: see headers.py."""
    return -(int.from_bytes(data, "big") << 8 * (len(data) & 1)) % 0xFFFF
