# SPDX-License-Identifier: GPL-2.0-only
import re

import numpy as np
import pytest

from tests.toolkit.capture.ring_memory import PAGE, RECORD, KernelRing, Ledger, numbered
from toolkit.capture.ring import Ring, ledger
from toolkit.paths import PROBES
from toolkit.trace.schema import EVENT


@pytest.fixture
def kernel() -> KernelRing:
    """A ring of one page: 56 records, and 64 bytes into which no record fits."""
    return KernelRing(PAGE)


@pytest.fixture
def ring(kernel: KernelRing) -> Ring:
    return Ring(kernel.map_fd, kernel.size)


def test_empty_ring_gives_nothing(kernel: KernelRing, ring: Ring) -> None:
    assert ring.read_into(np.zeros(8, EVENT)) == 0
    assert kernel.consumed == 0


def test_records_come_in_order_and_whole(kernel: KernelRing, ring: Ring) -> None:
    sent = numbered(5, 100, gfp=0xA20, queue=7, kind=2, posted_after=0xFFFF)
    assert kernel.send(sent) == 5
    room = np.zeros(8, EVENT)
    assert ring.read_into(room) == 5
    assert room[:5].tobytes() == sent.tobytes()
    assert not room[5:]["ts"].any()
    assert kernel.consumed == kernel.produced == 5 * RECORD == 360
    assert ring.read_into(room) == 0


def test_reading_stops_before_a_record_that_is_busy(kernel: KernelRing, ring: Ring) -> None:
    """Records are submitted in any order; the reader gives back none that is still being written."""
    kernel.send(numbered(2))
    busy = kernel.reserve(numbered(1, 2))
    kernel.send(numbered(2, 3))
    assert busy is not None
    room = np.zeros(8, EVENT)
    assert ring.read_into(room) == 2
    assert kernel.consumed == 2 * RECORD
    assert ring.read_into(room) == 0
    kernel.submit(busy)
    assert ring.read_into(room) == 3
    assert room["ts"][:3].tolist() == [2, 3, 4]


def test_first_record_busy_gives_nothing(kernel: KernelRing, ring: Ring) -> None:
    kernel.reserve(numbered(1))
    assert ring.read_into(np.zeros(8, EVENT)) == 0
    assert kernel.consumed == 0


def test_records_that_find_no_room_stay_in_the_ring(kernel: KernelRing, ring: Ring) -> None:
    kernel.send(numbered(10))
    room = np.zeros(4, EVENT)
    seen = []
    while count := ring.read_into(room):
        seen.append(room["ts"][:count].tolist())
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert ring.read_into(room[:0]) == 0


def test_full_ring_takes_more_only_after_a_read(kernel: KernelRing, ring: Ring) -> None:
    assert kernel.send(numbered(60)) == 56
    assert ring.read_into(np.zeros(3, EVENT)) == 3
    assert kernel.send(numbered(60, 56)) == 3
    room = np.zeros(64, EVENT)
    assert ring.read_into(room) == 56
    assert room["ts"][:56].tolist() == list(range(3, 59))


@pytest.mark.parametrize("chunk", [1, 7, 55, 56])
def test_records_across_the_end_of_the_ring_are_whole(kernel: KernelRing, ring: Ring, chunk: int) -> None:
    """72 bytes do not divide 4096: each round breaks a record at another place."""
    room, seen = np.zeros(64, EVENT), []
    for first in range(0, 600, chunk):
        assert kernel.send(numbered(chunk, first, gfp=np.arange(first, first + chunk) * 7919)) == chunk
        count = ring.read_into(room)
        seen += room["ts"][:count].tolist()
        assert (room["gfp"][:count] == room["ts"][:count] * 7919).all()
    assert seen == list(range(len(seen))) and len(seen) >= 600
    assert kernel.consumed == kernel.produced > 10 * kernel.size


def test_position_is_kept_beyond_32_bits(kernel: KernelRing) -> None:
    start = (1 << 32) // RECORD * RECORD
    for offset in (0, PAGE):
        kernel._memory[offset : offset + 8] = start.to_bytes(8, "little")
    kernel.send(numbered(3))
    room = np.zeros(8, EVENT)
    assert Ring(kernel.map_fd, kernel.size).read_into(room) == 3
    assert room["ts"][:3].tolist() == [0, 1, 2]
    assert kernel.consumed == start + 3 * RECORD


def test_no_probe_discards_a_record() -> None:
    """A discarded record has another length, and the reader would wait for it for ever."""
    calls = set()
    for source in PROBES.rglob("*.c"):
        calls |= set(re.findall(r"\bevents\.(\w+)\(", source.read_text()))
    assert calls
    assert not [name for name in calls if "discard" in name]


def test_ledger_shows_what_the_kernel_counts_meanwhile() -> None:
    memory = Ledger(cpus=300, kinds=18)
    counts = ledger(memory.map_fd, 300, 18)
    assert counts.shape == (300, 18)
    assert not counts["attempted"].any()
    memory.counts["attempted"][299, 17] = 5
    memory.counts["dropped"][0, 1] = 2
    assert (counts["attempted"][299, 17], counts["dropped"][0, 1]) == (5, 2)
    assert (counts["attempted"].sum(), counts["dropped"].sum()) == (5, 2)
    with pytest.raises(ValueError, match="read-only"):
        counts["dropped"][0, 0] = 1
