# SPDX-License-Identifier: GPL-2.0-only
import pytest

from tests.vm.models.qlge_nic.conftest import Bench
from tests.vm.models.qlge_nic.driver import EXCLUSIVE, MAC, Completion
from tests.vm.models.qlge_nic.frames import datagram, tcp, to
from vm.models.qlge_nic.headers import examine
from vm.models.qlge_nic.steering import _Toeplitz

BROADCAST, GROUP, OTHER = b"\xff" * 6, bytes.fromhex("333300000001"), bytes.fromhex("525400000199")


def completion(bench: Bench, frame: bytes, ring: int = 0) -> Completion | None:
    """:return: of the frame, if it reached the ring; it reaches no other."""
    bench.arrive(frame)
    found = [bench.driver.poll(number) for number in range(2)]
    assert not found[1 - ring]
    assert all(data == frame for data, _ in found[ring])
    return found[ring][0][1] if found[ring] else None


def test_frames_to_other_addresses_are_dropped(up: Bench) -> None:
    entry = completion(up, to(BROADCAST, 60))
    assert entry and entry.flags1 & 0x80
    assert completion(up, to(MAC, 60)) is not None
    assert completion(up, to(OTHER, 60)) is None and completion(up, to(GROUP, 60)) is None
    assert up.nic.filtered == 2
    up.driver.add_multicast(GROUP)
    entry = completion(up, to(GROUP, 60))
    assert entry and entry.flags1 & 0x60 == 0x40
    up.driver.set_mac(bytes(6))
    assert completion(up, to(MAC, 60)) is None
    up.driver.set_mac(OTHER)
    assert completion(up, to(OTHER, 60)) is not None


def test_promiscuous_and_allmulti(up: Bench) -> None:
    """qlge_set_multicast_list"""
    up.driver.route(5, 0x300000, 1 << 1)
    entry = completion(up, to(GROUP, 60))
    assert entry and entry.flags1 & 0x60 == 0x60
    up.driver.route(15, 0x300000, 1 << 23)
    entry = completion(up, to(OTHER, 60))
    assert entry and entry.flags2 & 1
    up.driver.route(15, 0x300000, 0)
    assert completion(up, to(OTHER, 60)) is None


def test_tables_can_be_read(up: Bench) -> None:
    """qlge_get_mac_addr_reg, qlge_get_routing_reg"""
    up.driver.write(0xA8, 1 << 26 | 1)
    assert up.driver.read(0xA8) >> 30 == 3 and up.driver.read(0xAC) == 0x5254
    up.driver.write(0xE4, 1 << 26 | 0x20000 | 12 << 8)
    assert up.driver.read(0xE8) == 1 << 7


#: From Microsoft's verification suite of RSS, whose key is the one that the driver uses.
SEED = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")


@pytest.mark.parametrize(
    ("flow", "digest"),
    [
        ("420995bba18e6450" + "0aea06e6", 0x51CCC178),
        ("420995bba18e6450", 0x323E8FC2),
        ("c75c6f024145 8c53".replace(" ", "") + "37961283", 0xC626B0EA),
    ],
)
def test_hash_is_that_of_the_specification(flow: str, digest: int) -> None:
    data = bytes.fromhex(flow)
    assert _Toeplitz(SEED[:16])(data) == digest == _Toeplitz(SEED)(data)


@pytest.mark.parametrize("version", [4, 6])
def test_rss_spreads_tcp(up: Bench, version: int) -> None:
    rings = set()
    for port in range(20):
        frame = tcp(b"data", ports=(1000, port), version=version)
        flow = examine(memoryview(frame)).flow
        digest = _Toeplitz(SEED[:16] if version == 4 else SEED)(flow)
        entry = completion(up, frame, digest & 1)
        assert entry and entry.rss == digest and entry.flags3 & 7 == (5 if version == 4 else 3)
        rings.add(digest & 1)
    assert rings == {0, 1}


def test_udp_is_not_hashed_as_the_driver_asks(up: Bench) -> None:
    for port in range(9000, 9010):
        entry = completion(up, datagram(100, port))
        assert entry and entry.rss == 0


def test_rss_by_addresses_when_asked(up: Bench) -> None:
    up.driver.start_rss(flags=0x02 | 0x10 | 0x40)
    digest = _Toeplitz(SEED[:16])(bytes.fromhex("c0000202c0000201"))
    entry = completion(up, datagram(100), digest & 1)
    assert entry and entry.rss == digest and entry.flags3 & 7 == 4


def test_ports_are_placed_on_a_ring(up: Bench) -> None:
    up.nic.steering.ports = {9001: 1}
    assert completion(up, datagram(100, 9001), 1) and completion(up, datagram(100, 9000), 0)
    assert completion(up, tcp(b"", ports=(5, 9001)), 1)
    assert completion(up, to(BROADCAST, 60))


def test_default_queue_and_its_absence(up: Bench) -> None:
    up.driver.write(0xD4, 0x7F000000 | 1 << 8)
    assert completion(up, to(BROADCAST, 60), 1)
    up.driver.write(0xD4, 0x7F000000 | 9 << 8)
    up.arrive(to(BROADCAST, 60))
    assert up.nic.unrouted == 1


def test_wrong_checksums_go_to_the_default_queue(up: Bench) -> None:
    up.driver.write(0xD4, 0x7F000000 | 1 << 8)
    good = datagram(100)
    bad_udp, bad_ip = bytearray(good), bytearray(good)
    bad_udp[60] ^= 1
    bad_ip[24] ^= 1
    entry = completion(up, good)
    assert entry and entry.flags1 & 0x1C == 0 and entry.flags2 & 0x60 == 0x20 and entry.flags3 & 8
    entry = completion(up, bytes(bad_udp), 1)
    assert entry and entry.flags1 & 0x1C == 0x04
    entry = completion(up, bytes(bad_ip), 1)
    assert entry and entry.flags1 & 0x1C == 0x10


def vlan(frame: bytes, tag: int) -> bytes:
    return frame[:12] + b"\x81\0" + tag.to_bytes(2, "big") + frame[12:]


def test_vlan_tags_are_taken_off(up: Bench) -> None:
    frame = datagram(300)
    up.arrive(vlan(frame, 0x6005))
    ((data, entry),) = up.driver.poll()
    assert data == vlan(frame, 0x6005) and entry.flags2 & 2
    up.driver.write(0xD4, 8 << 16 | 8)
    up.arrive(vlan(frame, 0x6005), frame)
    (tagged, plain) = up.driver.poll()
    assert tagged[0] == plain[0] == frame
    assert tagged[1].vlan == 0x6005 and tagged[1].flags2 & 0x22 == 0x22 and not plain[1].flags2 & 2


def test_vlan_filter_lets_known_tags_through(up: Bench) -> None:
    up.driver.write(0xD4, 6 << 16 | 4)
    frame = vlan(to(MAC, 60), 7)
    assert completion(up, frame) is None
    up.driver.write(0xA8, 2 << 16 | 7 << 4 | EXCLUSIVE)
    assert completion(up, frame) is not None and completion(up, to(MAC, 60)) is not None
    up.driver.write(0xA8, 2 << 16 | 7 << 4)
    assert completion(up, frame) is None
    up.driver.write(0xD4, 6 << 16 | 6)
    assert completion(up, frame) is None and completion(up, to(MAC, 60)) is not None
    up.driver.write(0xD4, 6 << 16 | 2)
    assert completion(up, to(MAC, 60)) is None
