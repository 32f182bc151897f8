# SPDX-License-Identifier: GPL-2.0-only
import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm.wire import frames

MAC = "52:54:00:00:01:00"


def test_frame_has_the_size_and_the_addresses_asked_for() -> None:
    frame = frames.udp(64, dst_mac=MAC, port=9005, src="192.0.2.7", dst="192.0.2.9")
    assert len(frame) == 64
    assert frame[:6] == bytes.fromhex("525400000100")
    assert frame[6:14] == bytes.fromhex("525400ffff01") + b"\x08\0"
    version, length, protocol = frame[14], *struct.unpack("!H", frame[16:18]), frame[23]
    assert (version, length, protocol) == (0x45, 50, 17)
    assert [str(ipaddress.ip_address(frame[at : at + 4])) for at in (26, 30)] == ["192.0.2.7", "192.0.2.9"]
    assert struct.unpack("!HHH", frame[34:40]) == (9, 9005, 30)
    assert frame[42:] == b"rx-stall rx-stall rx-s"


@given(st.integers(42, 1514), st.integers(0, 0xFFFF))
def test_receiver_finds_both_checksums_right(size: int, port: int) -> None:
    """The sum of all words, checksum included, is 0xffff (RFC 1071)."""
    frame = frames.udp(size, dst_mac=MAC, port=port)
    assert frames.checksum(frame[14:34]) == 0
    pseudo = frame[26:34] + struct.pack("!BBH", 0, 17, size - 34)
    assert frames.checksum(pseudo + frame[34:]) == 0
    # 0 would say that there is none.
    assert frame[40:42] != b"\0\0"


def test_checksum_is_that_of_the_rfc() -> None:
    """RFC 1071, section 3: the sum of these bytes is ddf2."""
    assert frames.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2
    assert frames.checksum(b"\x12") == 0xFFFF - 0x1200
    assert frames.checksum(b"") == 0xFFFF


@pytest.mark.parametrize("size", [41, 14 + 0x10000, 70000])
def test_impossible_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"a frame has 42 to 65549 bytes, not {size}"):
        frames.udp(size, dst_mac=MAC, port=1)


@pytest.mark.parametrize("size", [42, 14 + 0xFFFF])
def test_smallest_and_largest_frame(size: int) -> None:
    assert len(frames.udp(size, dst_mac=MAC, port=1)) == size


def test_each_port_has_a_frame() -> None:
    found = frames.to_ports(60, [9000, 9001, 9005], dst_mac=MAC)
    assert [struct.unpack("!H", frame[36:38])[0] for frame in found] == [9000, 9001, 9005]


@pytest.mark.parametrize("text", ["52:54:00", "", "52:54:00:00:01:00:00", "hello!"])
def test_text_that_is_no_ethernet_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no Ethernet address|non-hexadecimal"):
        frames.mac(text)
