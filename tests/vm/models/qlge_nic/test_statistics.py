# SPDX-License-Identifier: GPL-2.0-only
from tests.vm.models.qlge_nic.conftest import Bench
from tests.vm.models.qlge_nic.driver import MAC
from tests.vm.models.qlge_nic.frames import to
from vm.models.qlge_nic.statistics import Statistics


def test_counters_as_ethtool_reads_them(up: Bench) -> None:
    """qlge_update_stats"""
    group = bytes.fromhex("333300000001")
    up.arrive(
        *[to(MAC, size) for size in (14, 64, 65, 1518, 1519, 9600)], to(b"\xff" * 6, 128), to(group, 600)
    )
    up.arrive(b"short", to(MAC, 9601))
    for size in (60, 1514):
        up.driver.send([to(group, size)])

    def counter(address: int) -> int:
        low, high = (up.driver.read_behind(0x78, address + half) for half in (0, 4))
        return high << 32 | low

    assert counter(0x310) == counter(0x318) == 8
    assert counter(0x300) == 14 + 64 + 65 + 1518 + 1519 + 9600 + 128 + 600
    assert [counter(address) for address in (0x320, 0x328, 0x330, 0x338, 0x340)] == [1, 1, 6, 1, 1]
    assert [counter(0x390 + 8 * number) for number in range(7)] == [2, 1, 1, 0, 1, 1, 2]
    assert [counter(address) for address in (0x200, 0x208, 0x210, 0x218, 0x220)] == [2, 1574, 2, 0, 0]
    assert [counter(0x238 + 8 * number) for number in range(7)] == [1, 0, 0, 0, 0, 1, 0]
    assert counter(0x5B8) == counter(0x500) == 0


def test_counter_has_a_high_half() -> None:
    statistics = Statistics()
    statistics.rx.bytes = 0x1_2345_6789
    assert (statistics.register(0x300), statistics.register(0x304)) == (0x23456789, 1)
