# SPDX-License-Identifier: GPL-2.0-only
"""Frames that the driver sends. What it leaves to the NIC, our own reader of headers checks."""

import os
from struct import pack_into, unpack_from
from typing import Any

import pytest

from tests.vm.models.qlge_nic.conftest import Bench
from tests.vm.models.qlge_nic.driver import MAC
from tests.vm.models.qlge_nic.frames import datagram, tcp, to
from vm.models.qlge_nic.headers import examine

TSO, LSO, UC, TC, IC, V = 2, 0x20, 0x40, 0x80, 1, 4


def offsets(network: int, transport: int) -> int:
    return network | transport << 6


@pytest.mark.parametrize("parts", [1, 2, 7, 8, 9, 17])
def test_frame_goes_out_whole(up: Bench, parts: int) -> None:
    pieces = [os.urandom(50 + number) for number in range(parts)]
    slot = up.driver.send(pieces)
    assert up.out == [b"".join(pieces)]
    assert up.driver.sent() == [(1, 0, slot, 0)] and up.driver.interrupts() == 1


def test_many_frames_of_two_queues(up: Bench) -> None:
    expected = []
    for number in range(600):
        queue = number & 1
        expected.append(to(MAC, 60))
        slot = up.driver.send([expected[-1]], queue=queue)
        assert up.driver.sent(queue) == [(1, 0, slot, queue)]
    assert up.out == expected


def test_one_kick_for_several(up: Bench) -> None:
    frames = [to(MAC, 60) for _ in range(10)]
    for frame in frames:
        up.driver.send([frame], kick=frame is frames[-1])
    assert up.out == frames and len(up.driver.sent()) == 10 and up.driver.interrupts() == 1


@pytest.mark.parametrize(
    ("parts", "length", "flags"),
    [([b"x" * 60], 61, 0x08), ([b"x" * 13], None, 0x10), ([b"x" * 9700], None, 0x20)],
)
def test_errors_are_completed(up: Bench, parts: list[bytes], length: int | None, flags: int) -> None:
    up.driver.send(parts, length=length)
    assert [each[1] for each in up.driver.sent()] == [flags]
    assert len(up.out) == (flags == 0x20)


def test_frame_out_of_reach_is_completed_with_an_error(up: Bench) -> None:
    up.driver.send([b"x" * 60], kick=False)
    up.driver.poke(up.driver.work[0] + 32, b"\0" * 8)
    up.driver.send([b"y" * 60])
    assert [each[1] for each in up.driver.sent()] == [0x80, 0] and up.out == [b"y" * 60]


def test_list_that_leads_to_itself(up: Bench) -> None:
    up.driver.send([b"x" * 60], kick=False)
    block = up.driver.work[0]
    up.driver.poke(block + 32, (block + 32).to_bytes(8, "little") + (96 | 1 << 30).to_bytes(4, "little"))
    up.driver.send([b"y" * 60])
    assert [each[1] for each in up.driver.sent()] == [0x08, 0]


def test_vlan_tag_is_put_in(up: Bench) -> None:
    frame = to(MAC, 60)
    up.driver.send([frame], flags3=V, vlan=0x2005)
    assert up.out == [frame[:12] + b"\x81\0\x20\x05" + frame[12:]]


@pytest.mark.parametrize("size", [60, 61, 1000])
def test_udp_checksum_is_filled_in(up: Bench, size: int) -> None:
    """qlge_hw_csum_setup: the field holds the sum of the pseudo header."""
    good = datagram(size)
    frame = bytearray(good)
    pseudo = sum(unpack_from("!4H", frame, 26)) + 17 + size - 34
    pack_into("!H", frame, 40, pseudo % 0xFFFF)
    up.driver.send([bytes(frame)], opcode=TSO, flags2=UC, headers=42, offsets=offsets(14, 34))
    assert examine(memoryview(up.out[0])).flags1 == 0 and up.out == [good]


def segment(data: bytes, version: int, *, whole: bool) -> bytes:
    """With the sum of the pseudo header in the checksum field; without the length in it for TSO."""
    frame = bytearray(tcp(data, sequence=0xFFFFFF00, flags=0x80 | 0x19, version=version))
    start, addresses = (34, frame[26:34]) if version == 4 else (54, frame[22:54])
    words = unpack_from(f"!{len(addresses) // 2}H", addresses)
    pack_into("!H", frame, start + 16, (sum(words) + 6 + (len(frame) - start if whole else 0)) % 0xFFFF)
    return bytes(frame)


def test_tcp_checksum_is_filled_in(up: Bench) -> None:
    up.driver.send(
        [segment(b"odd", 4, whole=True)], opcode=TSO, flags2=TC, headers=54, offsets=offsets(14, 34)
    )
    assert examine(memoryview(up.out[0])).flags1 == 0 and up.out[0].endswith(b"odd")


@pytest.mark.parametrize(("version", "start"), [(4, 34), (6, 54)])
@pytest.mark.parametrize(("size", "mss"), [(5000, 1448), (1448, 1448), (2896, 1448), (30001, 8960)])
def test_large_frame_is_cut(up: Bench, version: int, start: int, size: int, mss: int) -> None:
    data = os.urandom(size)
    frame = segment(data, version, whole=False)
    # As an skb has it: headers, then pages.
    pages = [frame[at : at + 4096] for at in range(start + 20, len(frame), 4096)]
    up.driver.send(
        [frame[: start + 20], *pages],
        opcode=TSO,
        flags2=LSO,
        flags3=IC,
        headers=start + 20,
        offsets=offsets(14, start),
        mss=mss,
    )
    assert b"".join(each[start + 20 :] for each in up.out) == data
    assert len(up.out) == -(-size // mss)
    for number, each in enumerate(up.out):
        headers = examine(memoryview(each))
        assert headers.flags1 == 0 and headers.flags2 == 0x40 and headers.port == 2
        assert unpack_from("!I", each, start + 4)[0] == (0xFFFFFF00 + number * mss) & 0xFFFFFFFF
        last = number == len(up.out) - 1
        assert each[start + 13] == 0x10 | (0x09 if last else 0) | (0 if number else 0x80)
        assert version == 6 or unpack_from("!H", each, 18)[0] == 7 + number
    assert up.driver.sent() == [(TSO, 0, 0, 0)]


@pytest.mark.parametrize(
    "wrong", [{"mss": 0}, {"headers": 30}, {"headers": 4000}, {"offsets": offsets(34, 14)}]
)
def test_offload_that_makes_no_sense(up: Bench, wrong: dict[str, int]) -> None:
    asked: dict[str, Any] = {"mss": 1000, "headers": 54, "offsets": offsets(14, 34)} | wrong
    up.driver.send([segment(b"x" * 3000, 4, whole=False)], opcode=TSO, flags2=LSO, **asked)
    assert up.out == [] and up.driver.sent()[0][1] == 0x08
