# SPDX-License-Identifier: GPL-2.0-only
import os
import time
from pathlib import Path

import pytest

from toolkit.capture import memory

ZONEINFO = """Node 0, zone    DMA
  per-node stats
      nr_free_cma  0
  pages free     10
        boost    0
        min      2
        low      3
        high     4
      nr_free_pages 10
Node 0, zone  Normal
  pages free     100
        min      20
        low      30
"""
PRESSURE = """some avg10=0.00 avg60=1.00 avg300=0.00 total=1500
full avg10=0.00 avg60=0.00 avg300=0.00 total=700
"""
PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc/pressure").mkdir(parents=True)
    (tmp_path / "proc/zoneinfo").write_text(ZONEINFO)
    (tmp_path / "proc/pressure/memory").write_text(PRESSURE)
    return tmp_path


def test_zones_are_added_up(root: Path) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    found = memory.read(root)
    assert before <= found.pop("at_ns") <= time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert found == {
        "free": 110 * PAGE,
        "min": 22 * PAGE,
        "low": 33 * PAGE,
        "some_ns": 1_500_000,
        "full_ns": 700_000,
    }


def test_what_the_kernel_does_not_say_is_left_out(root: Path) -> None:
    (root / "proc/pressure/memory").unlink()
    assert set(memory.read(root)) == {"at_ns", "free", "min", "low"}
    (root / "proc/zoneinfo").unlink()
    assert set(memory.read(root)) == {"at_ns"}


def test_this_kernel_has_free_memory() -> None:
    found = memory.read()
    assert 0 <= found["min"] <= found["low"] and found["free"] > 0
