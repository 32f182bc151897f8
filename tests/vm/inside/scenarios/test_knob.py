# SPDX-License-Identifier: GPL-2.0-only
import mmap
import time
from collections.abc import Iterator

import pytest

from vm.inside import testbed
from vm.inside.scenarios import knob
from vm.inside.testbed import MIB


@pytest.mark.parametrize(("writing", "spare"), [(0, 7), (1, 6), (9, 5)])
def test_spare_memory_is_free_or_in_swap_already(
    writing: int, spare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = {"MemFree": 5 * MIB, "SwapCached": 2 * MIB, "Writeback": writing * MIB, "Cached": 99}
    monkeypatch.setattr(testbed, "meminfo", memory.__getitem__)
    assert knob._spare() == spare * MIB


def _spare(monkeypatch: pytest.MonkeyPatch, *values: int) -> Iterator[int]:
    """Let memory be spare like this, one look after the other (MiB)."""
    left = iter(values)
    monkeypatch.setattr(knob, "_spare", lambda: next(left) * MIB)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    return left


def test_shortage_begins_once_memory_is_low(monkeypatch: pytest.MonkeyPatch) -> None:
    left = _spare(monkeypatch, 900, 200, 113, 112, 0)
    knob._wait_for(112)
    assert list(left) == [0]


def test_memory_that_stays_free_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    _spare(monkeypatch, *[900] * 9)
    monkeypatch.setattr(knob, "FILL_SECONDS", -1)
    with pytest.raises(SystemExit, match="reclaim keeps more than 112 MiB free; give --free a larger number"):
        knob._wait_for(112)


def test_memory_is_taken_in_parts_until_little_is_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the end by less than a MiB: what is spare then is let be, and looked at again."""
    taken: list[int] = []

    class Memory(bytearray):
        def __init__(self, _: int, size: int, __: int) -> None:
            super().__init__(size)
            taken.append(size)

    monkeypatch.setattr(mmap, "mmap", Memory)
    _spare(monkeypatch, 150, 127, 111, 110)
    with pytest.raises(StopIteration):
        knob._fill(110 * MIB)
    assert taken == [16 * MIB, 16 * MIB, MIB]
    assert all(size % mmap.PAGESIZE == 0 for size in taken)
