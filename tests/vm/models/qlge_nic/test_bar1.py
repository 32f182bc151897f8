# SPDX-License-Identifier: GPL-2.0-only
from struct import pack

from tests.vm.models.qlge_nic.conftest import Bench
from tests.vm.models.qlge_nic.driver import BAR1


def test_registers_describe_the_board(bench: Bench) -> None:
    """qlge_get_board_info: function 0, whose counterpart is function 1, so port 0."""
    functions = bench.driver.read_behind(0, 0x1002)
    assert (functions >> 1 & 7, functions >> 5 & 7) == (0, 1)
    assert bench.driver.status() == 0x1000 | 0x100 | 0x10 | 0x04


def test_masked_registers_and_semaphores(bench: Bench) -> None:
    driver = bench.driver
    driver.write(0x64, 0x00030000 | 1)
    driver.write(0x64, 0x03000000 | 1 << 8)
    assert driver.read(0x64) == 0x101
    driver.write(0x64, 0x00030000)
    assert driver.read(0x64) == 0x100
    driver.write(0x08, 0x00030003)
    driver.write(0x08, 0x00010000)
    assert driver.read(0x08) == 2
    driver.write(0x0C, 1 << 31 | 1 << 15)
    assert driver.read(0x0C) == 0


def test_mac_registers_remember(bench: Bench) -> None:
    bench.driver.write_behind(0x78, 0x108, 0xC40)
    assert bench.driver.read_behind(0x78, 0x108) == 0xC40
    assert bench.driver.read(0xF0) >> 31


def test_odd_accesses_to_registers_are_harmless(bench: Bench) -> None:
    bench.client.write(BAR1, 0x68, pack("<QI", 0x1122334455667788, 0x99AABBCC))
    bench.client.write(BAR1, 0x69, b"\xff")
    assert bench.client.read(BAR1, 0x69, 6) == pack("<Q", 0x1122334455667788)[1:7]
    assert bench.client.read(BAR1, 0x3000, 8) == bytes(8)
