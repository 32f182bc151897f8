# SPDX-License-Identifier: GPL-2.0-only
import os
import re
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
    (tmp_path / "proc/vmstat").write_text("nr_free_pages 110\nnr_zone_inactive_anon 7\n" + 99 * "other 1\n")
    (tmp_path / "proc/pressure/memory").write_text(PRESSURE)
    return tmp_path


def test_free_memory_and_the_time_that_tasks_waited(root: Path) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    found = memory.read(root)
    assert before <= found.pop("at_ns") <= time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert found == {"free": 110 * PAGE, "some_ns": 1_500_000, "full_ns": 700_000}
    (root / "proc/pressure/memory").unlink()
    assert set(memory.read(root)) == {"at_ns", "free"}
    (root / "proc/vmstat").unlink()
    assert set(memory.read(root)) == {"at_ns"}


def test_watermarks_of_zones_are_added_up(root: Path) -> None:
    assert memory.watermarks(root) == {"min": 22 * PAGE, "low": 33 * PAGE}
    (root / "proc/zoneinfo").unlink()
    assert memory.watermarks(root) == {}


def test_this_kernel_has_watermarks_and_its_zones_have_what_is_free() -> None:
    found = memory.watermarks()
    assert 0 <= found["min"] <= found["low"]
    free = [int(pages) for pages in re.findall(r"pages free +(\d+)", Path("/proc/zoneinfo").read_text())]
    assert memory.read()["free"] == pytest.approx(sum(free) * PAGE, rel=0.1)
