# SPDX-License-Identifier: GPL-2.0-only
"""Checksums are held against those of tests/vm/models/qlge_nic/frames.py, which are taken word by word."""

from struct import pack_into, unpack_from

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vm.models.qlge_nic.frames import datagram, tcp
from vm.models.qlge_nic import offload
from vm.models.qlge_nic.headers import TCP, UDP, examine


def _with_pseudo_sum(frame: bytes, transport: int, protocol: int, field: int) -> bytearray:
    """Return an IPv4 frame as the driver gives it: the field has the sum of the pseudo header."""
    length = len(frame) - transport
    changed = bytearray(frame)
    pack_into(
        "!H", changed, transport + field, (sum(unpack_from("!4H", frame, 26)) + protocol + length) % 0xFFFF
    )
    return changed


def test_vlan_tag_lies_behind_the_addresses() -> None:
    frame = bytearray(datagram(60))
    tagged = bytearray(frame)
    offload.tag(tagged, 0x2005)
    assert tagged == frame[:12] + b"\x81\0\x20\x05" + frame[12:]


@given(st.binary(max_size=70))
def test_tcp_checksum_is_completed(data: bytes) -> None:
    good = tcp(data)
    frame = _with_pseudo_sum(good, 34, TCP, 16)
    offload.fill_checksum(frame, 34, TCP)
    assert frame == good


@pytest.mark.parametrize("size", [42, 43, 60, 1500])
def test_udp_checksum_is_completed(size: int) -> None:
    good = datagram(size)
    frame = _with_pseudo_sum(good, 34, UDP, 6)
    offload.fill_checksum(frame, 34, UDP)
    assert frame == good


def test_udp_checksum_of_zero_is_sent_as_ones() -> None:
    """In UDP, 0 says that there is no checksum."""
    frame = _with_pseudo_sum(datagram(60), 34, UDP, 6)
    offload.fill_checksum(frame, 34, UDP)
    (checksum,) = unpack_from("!H", frame, 40)
    # What is missing to 0xffff, added to the data, makes the sum 0xffff and the checksum 0.
    changed = bytearray(datagram(60))
    (word,) = unpack_from("!H", changed, 42)
    pack_into("!H", changed, 42, (word + checksum) % 0xFFFF)
    frame = _with_pseudo_sum(bytes(changed), 34, UDP, 6)
    offload.fill_checksum(frame, 34, UDP)
    assert unpack_from("!H", frame, 40) == (0xFFFF,)
    assert examine(memoryview(frame)).flags1 == 0


def test_ip_checksum_does_not_depend_on_the_old_one() -> None:
    good = datagram(100)
    frame = bytearray(good)
    pack_into("!H", frame, 24, 0xBEEF)
    offload.fill_ip_checksum(frame, 14)
    assert frame == good


def test_frame_that_fits_stays_one_segment() -> None:
    good = tcp(b"x" * 100, flags=0x98 | 1)
    frame = bytearray(good)
    pack_into("!H", frame, 50, (sum(unpack_from("!4H", good, 26)) + TCP) % 0xFFFF)
    (segment,) = offload.segments(frame, 14, 34, 54, 100)
    assert segment == good


def test_segments_differ_in_sequence_length_identification_and_flags() -> None:
    good = tcp(b"a" * 100 + b"b" * 100 + b"c" * 50, sequence=0xFFFF_FFFF, flags=0x80 | 0x19)
    frame = bytearray(good)
    pack_into("!H", frame, 50, (sum(unpack_from("!4H", good, 26)) + TCP) % 0xFFFF)
    found = list(offload.segments(frame, 14, 34, 54, 100))
    assert [segment[54:] for segment in found] == [b"a" * 100, b"b" * 100, b"c" * 50]
    assert [unpack_from("!I", segment, 38)[0] for segment in found] == [0xFFFF_FFFF, 99, 199]
    assert [unpack_from("!H", segment, 16)[0] for segment in found] == [140, 140, 90]
    assert [unpack_from("!H", segment, 18)[0] for segment in found] == [7, 8, 9]
    # CWR on the first alone, FIN and PSH on the last alone.
    assert [segment[47] for segment in found] == [0x90, 0x10, 0x19]
    assert [examine(memoryview(segment)).flags1 for segment in found] == [0, 0, 0]
    assert frame[54:] == good[54:]
