# SPDX-License-Identifier: GPL-2.0-only
from tests.vm.models.qlge_nic.conftest import Bench
from tests.vm.models.qlge_nic.driver import MAC
from tests.vm.models.qlge_nic.frames import to


def test_vector_masks_itself_until_it_is_enabled(up: Bench) -> None:
    up.arrive(to(MAC, 60))
    up.arrive(to(MAC, 60))
    assert up.driver.interrupts() == 1 and up.driver.read(0x3C) == 1
    up.driver.poll()
    assert up.driver.read(0x3C) == 0
    up.driver.enable(0)
    assert up.driver.interrupts() == 0
    up.arrive(to(MAC, 60))
    assert up.driver.interrupts() == 1


def test_enabling_signals_what_came_meanwhile(up: Bench) -> None:
    up.arrive(to(MAC, 60))
    up.driver.poll()
    up.arrive(to(MAC, 60))
    up.driver.interrupts()
    up.driver.enable(0)
    assert up.driver.interrupts() == 1


def test_disabled_vector_and_master_switch(up: Bench) -> None:
    up.driver.write(0x34, 0x037F0000 | 0x200)
    assert not up.driver.read(0x34) & 1 << 15
    up.arrive(to(MAC, 60))
    up.driver.write(0x34, 1 << 30)
    up.driver.enable(0)
    assert up.driver.read(0x34) == 1 << 15 and up.driver.interrupts() == 0
    up.driver.write(0x34, 1 << 30 | 1 << 14)
    assert up.driver.interrupts() == 1


def test_vector_that_does_not_exist(up: Bench) -> None:
    up.driver.enable(0x7F)
    up.arrive(to(MAC, 60))
    assert up.driver.interrupts() == 1
