# SPDX-License-Identifier: GPL-2.0-only
"""The state of the machine around a trace: memory, pressure, the NICs' counters, the kernel's log."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from toolkit.capture import counters

#: As many of the kernel's last messages are kept.
MESSAGES = 100

_PROC = Path("/proc")


def read(devices: Iterable[str]) -> dict[str, Any]:
    """Read what the machine says of itself now; what it does not say is left out.

    :return: `utc`, ISO 8601; `pressure` (PSI: proc(5)), by resource, as text; `meminfo`, by name [kB];
        `zoneinfo`, the text of /proc/zoneinfo: free pages and watermarks of each zone; `counters`, by device
        and name (toolkit.capture.counters.read_all); `kernel_log`, its last messages.
    """
    found: dict[str, Any] = {
        "utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "pressure": _pressure(),
        "counters": counters.read_all(devices),
        "kernel_log": _kernel_log(),
    }
    with suppress(OSError):
        lines = (line.split() for line in (_PROC / "meminfo").read_text().splitlines())
        found["meminfo"] = {name.rstrip(":"): int(value) for name, value, *_ in lines}
    with suppress(OSError):
        found["zoneinfo"] = (_PROC / "zoneinfo").read_text()
    return found


def _pressure() -> dict[str, str]:
    """Return the text of each file of PSI; a kernel that has it turned off refuses to be read."""
    found = {}
    for path in sorted((_PROC / "pressure").glob("*")):
        with suppress(OSError):
            found[path.name] = path.read_text()
    return found


def _kernel_log() -> list[str]:
    """Return the last messages of the kernel, as dmesg has them: "[seconds] text"; none without the right."""
    try:
        log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return []
    lines: list[str] = []
    try:
        while True:
            try:
                # priority,sequence,microseconds,flags;text (Documentation/ABI/testing/dev-kmsg)
                head, _, text = os.read(log, 8192).decode(errors="replace").partition(";")
            except OSError as error:
                # What is read may be overwritten meanwhile.
                if error.errno == errno.EPIPE:
                    continue
                break
            lines.append(f"[{int(head.split(',')[2]) / 1e6:.6f}] {text.splitlines()[0] if text else ''}")
    finally:
        os.close(log)
    return lines[-MESSAGES:]
