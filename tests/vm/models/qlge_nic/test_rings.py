# SPDX-License-Identifier: GPL-2.0-only
"""Frames into buffers, and what happens when there are none."""

import selectors
from pathlib import Path
from struct import pack, pack_into

import pytest

from tests.vm.models.qlge_nic.conftest import Bench
from tests.vm.models.qlge_nic.driver import MAC, Driver
from tests.vm.models.qlge_nic.frames import datagram, to

DS, DL = 0x40, 0x80


@pytest.mark.parametrize(
    ("size", "where"),
    [(14, DS), (60, DS), (256, DS), (257, DL), (1514, DL), (2048, DL), (2049, 0), (9014, 0)],
)
def test_frame_arrives_whole(up: Bench, size: int, where: int) -> None:
    frame = to(MAC, size)
    up.arrive(frame)
    ((data, entry),) = up.driver.poll()
    assert data == frame and entry.length == size and entry.flags3 & (DS | DL) == where
    assert up.driver.interrupts() == 1


@pytest.mark.parametrize(("size", "buffers"), [(8192, 1), (8193, 2), (9014, 2), (9600, 2)])
def test_jumbo_frames(tmp_path: Path, loop: selectors.BaseSelector, size: int, buffers: int) -> None:
    made = Bench(tmp_path, loop)
    made.driver.close()
    made.client.unmap(1 << 32, 1 << 24)
    made.driver = Driver(made.client, rings=1, large=8192)
    made.driver.up()
    posted = made.ring()["posted_lbq"]
    frames = [to(MAC, size) for _ in range(3)]
    made.arrive(*frames)
    assert made.ring()["posted_lbq"] == posted - 3 * buffers
    assert [data for data, _ in made.driver.poll()] == frames
    made.close()


def test_posted_follows_the_producer_in_sixteens(up: Bench) -> None:
    ring = up.driver.rx[0]
    assert ring.lbq
    assert up.ring()["posted_lbq"] == up.ring()["posted_sbq"] == 496
    up.arrive(*[to(MAC, 1000)] * 20)
    assert up.ring()["posted_lbq"] == 476
    pack_into("<I", up.driver.inbound, ring.lbq.doorbell, (496 + 31) % 512)
    assert up.ring()["posted_lbq"] == 492


def test_ring_turns_over_many_times(up: Bench) -> None:
    """The rings wrap around: 256 completions, 512 buffers of each kind."""
    for size in (100, 1000, 3000):
        for _ in range(30):
            frames = [to(MAC, size) for _ in range(40)]
            up.arrive(*frames)
            assert [data for data, _ in up.driver.poll()] == frames
            assert up.driver.interrupts() == 1
            up.driver.enable(0)
    assert up.ring()["accepted"] == 3600 and up.driver.interrupts() == 0


def starve(bench: Bench, size: int, count: int) -> list[bytes]:
    """Frames that the driver takes, and never refills for."""
    for _ in range(count):
        bench.arrive(to(MAC, size))
        assert len(bench.driver.poll(refill=False)) == 1
        bench.driver.enable(0)
    bench.driver.interrupts()
    return [to(MAC, size) for _ in range(5)]


@pytest.mark.parametrize(("size", "queue"), [(1000, "lbq"), (100, "sbq")])
def test_empty_queue_drops_silently_until_it_is_refilled(up: Bench, size: int, queue: str) -> None:
    """What the series of 2019 describes: no buffer, no frame, and no interrupt either."""
    frames = starve(up, size, 496)
    assert up.ring()[f"posted_{queue}"] == 0
    up.arrive(*frames)
    up.driver.enable(0)
    assert up.driver.interrupts() == 0 and up.driver.poll(refill=False) == []
    counts = up.ring()
    other = {"lbq": "sbq", "sbq": "lbq"}[queue]
    assert counts[f"dropped_{queue}_empty"] == 5 and counts["dropped_cq_full"] == 0
    assert counts[f"dropped_{other}_empty"] == 0 and counts["accepted"] == 496
    (gap,) = up.nic.stats()["rings"][0][f"gaps_{queue}"]
    assert gap["refused"] == 5 and gap["open"]
    up.driver.poll()
    up.arrive(*frames)
    assert [data for data, _ in up.driver.poll()] == frames and up.driver.interrupts() == 1
    (gap,) = up.nic.stats()["rings"][0][f"gaps_{queue}"]
    assert gap["refused"] == 5 and "open" not in gap and gap["duration_ns"] > 0


def test_small_frame_still_wakes_a_ring_without_large_buffers(up: Bench) -> None:
    frames = starve(up, 1000, 496)
    up.arrive(frames[0], to(MAC, 100))
    assert up.driver.interrupts() == 1 and len(up.driver.poll()) == 1
    up.arrive(frames[0])
    assert len(up.driver.poll()) == 1


def test_chain_takes_all_its_buffers_or_none(up: Bench) -> None:
    starve(up, 1000, 495)
    up.arrive(to(MAC, 3000))
    counts = up.ring()
    assert (counts["posted_lbq"], counts["posted_sbq"], counts["dropped_lbq_empty"]) == (1, 496, 1)
    up.arrive(to(MAC, 1000))
    assert up.ring()["posted_lbq"] == 0


def test_full_completion_queue_is_told_apart(up: Bench) -> None:
    frames = [to(MAC, 100) for _ in range(260)]
    up.arrive(*frames)
    counts = up.ring()
    assert counts["accepted"] == 255 and counts["dropped_cq_full"] == 5 and counts["dropped_sbq_empty"] == 0
    assert counts["completions"] == 255
    assert [data for data, _ in up.driver.poll()] == frames[:255]
    assert up.nic.statistics.fifo_drops == 5


def test_buffer_out_of_reach_loses_its_frame(up: Bench) -> None:
    ring = up.driver.rx[0]
    assert ring.lbq
    up.driver.poke(ring.lbq.base, pack("<Q", 0xDEAD0000))
    up.arrive(to(MAC, 1000), to(MAC, 3000))
    assert up.ring()["dropped_dma"] == 2 and up.ring()["posted_lbq"] == up.ring()["posted_sbq"] == 496
    assert up.driver.interrupts() == 0
    up.arrive(to(MAC, 100))
    assert len(up.driver.poll()) == 1


def test_rings_do_not_touch_each_other(up: Bench) -> None:
    up.nic.steering.ports[9001] = 1
    starve(up, 1000, 496)
    up.arrive(datagram(1000, 9001), to(MAC, 1000))
    assert up.driver.interrupts(0) == 0 and up.driver.interrupts(1) == 1
    assert up.ring(0)["dropped_lbq_empty"] == 1 and up.ring(1)["dropped_lbq_empty"] == 0
    assert len(up.driver.poll(1)) == 1
