# SPDX-License-Identifier: GPL-2.0-only
"""Was memory short? What the kernel says of free pages, watermarks, and of tasks that wait for memory."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from toolkit.capture import kernel

# vmstat_text in mm/vmstat.c begins with it. The kernel writes no more lines than are asked for.
_FREE = re.compile(r"nr_free_pages (\d+)\n")
_FIRST_LINE = 64
_WATERMARK = re.compile(r"^\s+(min|low) +(\d+)$", re.MULTILINE)
_WAITED = re.compile(r"^(some|full) .*total=(\d+)$", re.MULTILINE)


def read(root: Path = kernel.ROOT) -> dict[str, int]:
    """Read how much memory is free, and how long tasks have waited for memory.

    :return: `at_ns`, CLOCK_MONOTONIC; `free` [bytes], of all zones (/proc/vmstat; sysinfo(2) may add pages
        that no zone has yet); `some_ns` and `full_ns`, for how long some or all tasks have waited since the
        boot (PSI: /proc/pressure/memory). What the kernel does not say is left out.
    """
    found = {"at_ns": time.clock_gettime_ns(time.CLOCK_MONOTONIC)}
    if pages := _FREE.match(kernel.read(root / "proc/vmstat", _FIRST_LINE) or ""):
        found["free"] = int(pages[1]) * os.sysconf("SC_PAGE_SIZE")
    for name, microseconds in _WAITED.findall(kernel.read(root / "proc/pressure/memory") or ""):
        found[f"{name}_ns"] = int(microseconds) * 1000
    return found


def watermarks(root: Path = kernel.ROOT) -> dict[str, int]:
    """Read the watermarks of memory; that takes longer than to read how much is free, and they seldom change.

    :return: `min` and `low` [bytes], the sums over all zones (/proc/zoneinfo): below `low` kswapd is woken,
        below `min` an allocation that may not wait fails unless it may use reserves. Empty, if the kernel
        does not say it.
    """
    found: dict[str, int] = {}
    size = os.sysconf("SC_PAGE_SIZE")
    for name, pages in _WATERMARK.findall(kernel.read(root / "proc/zoneinfo") or ""):
        found[name] = found.get(name, 0) + int(pages) * size
    return found
