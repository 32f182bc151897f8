# SPDX-License-Identifier: GPL-2.0-only
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vm.vfio_user import messages as m
from vm.vfio_user.irqs import Irqs

ASSIGN = m.DATA_EVENTFD | m.ACTION_TRIGGER


def _count(eventfd: int) -> int:
    """Return how often an eventfd was signalled since the last look."""
    try:
        return os.eventfd_read(eventfd)
    except BlockingIOError:
        return 0


@pytest.fixture
def eventfds() -> Iterator[list[int]]:
    """Eventfds of the client; the device gets copies, as by a socket."""
    found = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(4)]
    yield found
    for each in found:
        os.close(each)


@pytest.fixture
def irqs(eventfds: list[int]) -> Iterator[Irqs]:
    """Four vectors, each with an eventfd."""
    found = Irqs(4)
    copies = [os.dup(each) for each in eventfds]
    found.set(ASSIGN, 0, 4, b"", copies)
    assert copies == []
    yield found
    found.disable()


def _open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_vector_is_signalled_through_its_eventfd(irqs: Irqs, eventfds: list[int]) -> None:
    irqs.fire(2)
    irqs.fire(2)
    irqs.fire(0)
    assert [_count(each) for each in eventfds] == [1, 0, 2, 0]
    assert irqs.fired == [1, 0, 2, 0]


def test_vector_without_eventfd_is_not_counted() -> None:
    irqs = Irqs(2)
    irqs.fire(1)
    assert (irqs.fired, irqs.pending) == ([0, 0], 0)


def test_masked_vector_waits_and_fires_once(irqs: Irqs, eventfds: list[int]) -> None:
    irqs.set(m.DATA_NONE | m.ACTION_MASK, 1, 2, b"", [])
    for _ in range(3):
        irqs.fire(1)
    irqs.fire(3)
    assert irqs.pending == 0b10
    assert [_count(each) for each in eventfds] == [0, 0, 0, 1]
    irqs.set(m.DATA_NONE | m.ACTION_UNMASK, 1, 2, b"", [])
    assert irqs.pending == 0
    assert [_count(each) for each in eventfds] == [0, 1, 0, 0]
    irqs.fire(1)
    assert _count(eventfds[1]) == 1


def test_trigger_of_the_client_fires_the_chosen_vectors(irqs: Irqs, eventfds: list[int]) -> None:
    irqs.set(m.DATA_BOOL | m.ACTION_TRIGGER, 1, 3, b"\1\0\1", [])
    assert [_count(each) for each in eventfds] == [0, 1, 0, 1]
    irqs.set(m.DATA_NONE | m.ACTION_TRIGGER, 0, 2, b"", [])
    assert [_count(each) for each in eventfds] == [1, 1, 0, 0]


def test_full_eventfd_does_not_stop_the_device(irqs: Irqs, eventfds: list[int]) -> None:
    os.eventfd_write(eventfds[0], 0xFFFF_FFFF_FFFF_FFFE)
    irqs.fire(0)
    assert irqs.fired[0] == 1
    assert _count(eventfds[0]) == 0xFFFF_FFFF_FFFF_FFFE


def test_new_eventfd_replaces_the_old_one(irqs: Irqs, eventfds: list[int]) -> None:
    before = _open()
    irqs.set(ASSIGN, 1, 1, b"", [os.dup(eventfds[3])])
    assert _open() == before
    irqs.fire(1)
    assert [_count(each) for each in eventfds] == [0, 0, 0, 1]


def test_assignment_without_descriptors_takes_eventfds_away(irqs: Irqs, eventfds: list[int]) -> None:
    before = _open()
    irqs.set(ASSIGN, 0, 2, b"", [])
    assert _open() == before - 2
    for vector in range(4):
        irqs.fire(vector)
    assert [_count(each) for each in eventfds] == [0, 0, 1, 1]


def test_disable_forgets_eventfds_masks_and_what_waits(irqs: Irqs, eventfds: list[int]) -> None:
    before = _open()
    irqs.set(m.DATA_NONE | m.ACTION_MASK, 0, 4, b"", [])
    irqs.fire(0)
    irqs.set(m.DATA_NONE | m.ACTION_TRIGGER, 0, 0, b"", [])
    assert (_open(), irqs.pending) == (before - 4, 0)
    irqs.set(ASSIGN, 0, 1, b"", [os.dup(eventfds[0])])
    irqs.fire(0)
    assert _count(eventfds[0]) == 1


@pytest.mark.parametrize(
    ("flags", "start", "count", "data", "words"),
    [
        (m.DATA_NONE | m.ACTION_MASK, 3, 2, b"", "no such vector"),
        (m.DATA_NONE | m.ACTION_MASK, 0, 0, b"", "no vector is named"),
        (m.DATA_BOOL | m.ACTION_TRIGGER, 0, 3, b"\1\1", "too short"),
        (m.DATA_EVENTFD | m.ACTION_MASK, 0, 1, b"", "do not go with this action"),
        (m.DATA_NONE, 0, 1, b"", "not one of mask, unmask and trigger"),
        (m.DATA_NONE | m.ACTION_MASK | m.ACTION_UNMASK, 0, 1, b"", "not one of mask, unmask and trigger"),
    ],
)
def test_request_that_does_not_fit_together_is_refused(
    irqs: Irqs, eventfds: list[int], flags: int, start: int, count: int, data: bytes, words: str
) -> None:
    with pytest.raises(OSError, match=words) as error:
        irqs.set(flags, start, count, data, [])
    assert error.value.errno == errno.EINVAL
    irqs.fire(0)
    assert _count(eventfds[0]) == 1


def test_number_of_descriptors_must_be_that_of_the_vectors(irqs: Irqs, eventfds: list[int]) -> None:
    copies = [os.dup(eventfds[0])]
    with pytest.raises(OSError, match="1 descriptors for 2 vectors"):
        irqs.set(ASSIGN, 0, 2, b"", copies)
    # Still the caller's, which closes it.
    assert len(copies) == 1
    os.close(copies[0])
