# SPDX-License-Identifier: GPL-2.0-only
import mmap
import tempfile
from collections.abc import Iterator
from typing import IO

import pytest

from vm.inside import xdp

#: Where a ring keeps its producer, its consumer, its descriptors and its flags.
PLACES = (0, 64, 192, 128)


@pytest.fixture
def file() -> Iterator[IO[bytes]]:
    """A file that is mapped in the place of a socket."""
    with tempfile.TemporaryFile() as found:
        found.truncate(mmap.PAGESIZE)
        yield found


def ring(file: IO[bytes], size: int, layout: str) -> xdp.Ring:
    return xdp.Ring(file, 0, PLACES, size, layout)


def test_descriptors_come_out_as_they_went_in(file: IO[bytes]) -> None:
    here, there = ring(file, 4, "=QII"), ring(file, 4, "=QII")
    for number in range(11):
        here.put(number * 4096, 60, 0)
        assert there.take() == (number * 4096, 60, 0)
        assert there.take() is None


def test_places_go_on_from_zero_after_2_to_the_32(file: IO[bytes]) -> None:
    here = ring(file, 4, "=Q")
    file.write((0xFFFFFFFF).to_bytes(4, "little"))
    file.seek(PLACES[1])
    file.write((0xFFFFFFFF).to_bytes(4, "little"))
    file.flush()
    here.put(7)
    here.put(8)
    assert [here.take(), here.take(), here.take()] == [(7,), (8,), None]


def test_instructions_are_eight_bytes_each() -> None:
    program = xdp.busy(1000)
    assert len(program) == 6 * 8
    # r6 = 1000, and the last is exit.
    assert program[:8] == bytes([0xB7, 6, 0, 0]) + (1000).to_bytes(4, "little")
    assert program[-8:] == bytes([0x95, 0, 0, 0, 0, 0, 0, 0])
