# SPDX-License-Identifier: GPL-2.0-only
"""What the NIC sees of a frame that arrives: IP, TCP and UDP, and whether their checksums are right.

Internet checksums (RFC 1071) are computed in one step: the ones' complement sum of 16-bit words is the whole
number, read big-endian, modulo 0xffff.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from vm.models.qlge_nic.registers import IB_IE, IB_NU, IB_T, IB_TE, IB_U, IB_V4, IB_V6

IPV4, IPV6, VLAN = 0x0800, 0x86DD, 0x8100
TCP, UDP = 6, 17
#: From the type of the frame on: type, version and header length, total length, fragment, protocol.
_IPV4 = Struct("!HBxHxxHxB")
_IPV6_LENGTHS = Struct("!HB")
_PORT = Struct("!H")


class Headers(NamedTuple):
    """The headers of a frame that a completion describes.

    :param flags1: checksum errors; `flags2` TCP or UDP, `flags3` IPv4 or IPv6, as a completion has them.
    :param addresses: source and destination as they are in the frame; with the ports behind them in `flow`.
    :param port: the UDP or TCP destination port; -1 without one.
    """

    flags1: int
    flags2: int
    flags3: int
    addresses: bytes
    flow: bytes
    port: int


NOTHING = Headers(0, 0, 0, b"", b"", -1)


def examine(frame: memoryview) -> Headers:
    """Read the headers of a frame.

    :param frame: without a VLAN tag; it may be padded at its end.
    """
    size = len(frame)
    if size < 34:
        return NOTHING
    kind, version, total, fragment, protocol = _IPV4.unpack_from(frame, 12)
    if kind == IPV4:
        length = (version & 15) * 4
        if version >> 4 != 4 or length < 20 or not length <= total <= size - 14:
            return NOTHING
        if int.from_bytes(frame[14 : 14 + length], "big") % 0xFFFF:
            return Headers(IB_IE, 0, IB_V4, b"", b"", -1)
        if fragment & 0x3FFF:
            return Headers(0, 0, IB_V4, bytes(frame[26:34]), b"", -1)
        return _transport(frame, 14 + length, 14 + total, protocol, bytes(frame[26:34]), IB_V4)
    if kind == IPV6 and size >= 54:
        total, protocol = _IPV6_LENGTHS.unpack_from(frame, 18)
        if total <= size - 54:
            return _transport(frame, 54, 54 + total, protocol, bytes(frame[22:54]), IB_V6)
    return NOTHING


def _transport(
    frame: memoryview, start: int, end: int, protocol: int, addresses: bytes, flags3: int
) -> Headers:
    length = end - start
    if protocol == UDP and length >= 8:
        flags1, flags2 = (0 if frame[start + 6] or frame[start + 7] else IB_NU), IB_U
    elif protocol == TCP and length >= 20:
        flags1, flags2 = 0, IB_T
    else:
        return Headers(0, 0, flags3, addresses, b"", -1)
    if not flags1:
        words = int.from_bytes(frame[start:end], "big") << 8 * (length & 1)
        if (int.from_bytes(addresses, "big") + protocol + length + words) % 0xFFFF:
            flags1 = IB_TE
    flow = addresses + bytes(frame[start : start + 4])
    return Headers(flags1, flags2, flags3, addresses, flow, _PORT.unpack_from(frame, start + 2)[0])
