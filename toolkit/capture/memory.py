# SPDX-License-Identifier: GPL-2.0-only
"""Was memory short? What the kernel says of free pages, watermarks, and of tasks that wait for memory."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from toolkit.capture import kernel

_ZONE = re.compile(r"^\s+(?:pages )?(free|min|low) +(\d+)$", re.MULTILINE)
_WAITED = re.compile(r"^(some|full) .*total=(\d+)$", re.MULTILINE)


def read(root: Path = kernel.ROOT) -> dict[str, int]:
    """Read how much memory is free, and how long tasks have waited for memory.

    :return: `at_ns`, CLOCK_MONOTONIC; `free`, `min` and `low` [bytes], the free memory and the watermarks of
        all zones (/proc/zoneinfo): below `low` kswapd is woken, below `min` an allocation that may not wait
        fails unless it may use reserves; `some_ns` and `full_ns`, for how long some or all tasks have waited
        since the boot (PSI: /proc/pressure/memory). What the kernel does not say is left out.
    """
    found = {"at_ns": time.clock_gettime_ns(time.CLOCK_MONOTONIC)}
    size = os.sysconf("SC_PAGE_SIZE")
    for name, pages in _ZONE.findall(kernel.read(root / "proc/zoneinfo") or ""):
        found[name] = found.get(name, 0) + int(pages) * size
    for name, microseconds in _WAITED.findall(kernel.read(root / "proc/pressure/memory") or ""):
        found[f"{name}_ns"] = int(microseconds) * 1000
    return found
