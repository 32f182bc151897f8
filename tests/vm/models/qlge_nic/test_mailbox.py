# SPDX-License-Identifier: GPL-2.0-only
import pytest

from tests.vm.models.qlge_nic.conftest import Bench
from tests.vm.models.qlge_nic.driver import MAC
from tests.vm.models.qlge_nic.frames import to

GOOD = 0x4000


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ((0x69,), [GOOD, 0]),
        ((0x123,), [GOOD, 0x10000, 0x2580]),
        ((0x160, 1), [GOOD]),
        ((0x161,), [GOOD, 2]),
        ((0x125, 0x03E803E8), [GOOD]),
        ((0x113, 1, 2, 3, 4, 5, 6, 0), [GOOD]),
        ((0x2A,), [0x4001]),
    ],
)
def test_mailbox_commands_complete(bench: Bench, words: tuple[int, ...], answer: list[int]) -> None:
    assert bench.driver.command(*words, count=len(answer)) == answer
    assert not bench.driver.status() & 2


def test_firmware_version_and_led(bench: Bench) -> None:
    assert bench.driver.command(0x08, count=2)[1]
    bench.driver.command(0x125, 77)
    assert bench.driver.command(0x126, count=2) == [GOOD, 77]


def test_setting_the_port_is_followed_by_its_completion(up: Bench) -> None:
    assert up.driver.command(0x122, 0x10000, 0x2580) == [GOOD]
    assert up.driver.message(1) == [0x8100] and up.driver.interrupts() == 1
    up.driver.acknowledge()
    assert not up.driver.status() & 2


def test_link_goes_and_comes(up: Bench) -> None:
    up.nic.set_link(False)
    assert up.driver.interrupts() == 1 and up.driver.status() & 6 == 2
    assert up.driver.message(1) == [0x8012]
    up.arrive(to(MAC, 60))
    up.driver.send([to(MAC, 60)])
    assert up.nic.link_down == 2 and up.out == []
    up.nic.set_link(True)
    assert up.driver.message(1) == [0x8012]
    up.driver.acknowledge()
    assert up.driver.message(2) == [0x8011, 0x11] and up.driver.status() & 6 == 6
    up.driver.acknowledge()
    assert up.driver.status() & 6 == 4


def test_link_that_stays_says_nothing(up: Bench) -> None:
    up.nic.set_link(True)
    assert up.driver.interrupts() == 0 and not up.driver.status() & 2


def test_event_waits_for_its_mask(up: Bench) -> None:
    """qlge_isr masks MPI events, qlge_mpi_work reads and unmasks them."""
    up.driver.write(0x38, 1 << 16)
    up.nic.set_link(False)
    assert up.driver.interrupts() == 0
    up.driver.write(0x38, 1 << 16 | 1)
    assert up.driver.interrupts() == 1
    up.driver.enable(0)
    assert up.driver.interrupts() == 1


def test_event_before_a_commands_completion(up: Bench) -> None:
    """qlge_mailbox_command handles the event, and then finds its completion."""
    up.nic.set_link(False)
    up.driver.write_behind(0, 0x1180, 0x69)
    up.driver.write(0x14, 5 << 28)
    assert up.driver.message(1) == [0x8012]
    up.driver.acknowledge()
    assert up.driver.message(1) == [GOOD]
    up.driver.acknowledge()
    assert not up.driver.status() & 2


def test_link_events_that_nobody_reads_do_not_pile_up(bench: Bench) -> None:
    for _ in range(10):
        bench.nic.set_link(False)
        bench.nic.set_link(True)
    read = 0
    while bench.driver.status() & 2:
        bench.driver.acknowledge()
        read += 1
    assert read == 2 and bench.driver.message(1) == [0x8011]


def test_pause_and_reset_of_the_processor(bench: Bench) -> None:
    for command, state in [(3, 1 << 10), (1, 1 << 10 | 1 << 8), (2, 1 << 10), (4, 0)]:
        bench.driver.write(0x14, command << 28)
        assert bench.driver.read(0x14) == state


def test_loopback_returns_the_frame_that_was_sent(up: Bench) -> None:
    """qlge_start_loopback, qlge_run_loopback_test"""
    up.driver.command(0x122, 0x10002, 0x2580)
    frame = b"\xff" * 256
    up.driver.send([frame])
    assert [data for data, _ in up.driver.poll()] == [frame] and up.out == []
