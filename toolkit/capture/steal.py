# SPDX-License-Identifier: GPL-2.0-only
"""How long the hypervisor let others run in the place of this machine's CPUs."""

from __future__ import annotations

import os
import re
from pathlib import Path

from toolkit.capture import kernel

# cpuN user nice system idle iowait irq softirq steal …
_CPU = re.compile(r"^cpu(\d+)(?: \d+){7} (\d+)", re.MULTILINE)


def read(root: Path = kernel.ROOT) -> list[int]:
    """Read how long each CPU was to run and did not, since the boot: steal time (/proc/stat, proc(5)).

    :return: ns by the number of the CPU, 0 for one that is off; in steps of a tick, 10 ms. All are 0 where no
        time was stolen, or the hypervisor does not tell. Empty, if the kernel has no such file.
    """
    found = {int(cpu): int(ticks) for cpu, ticks in _CPU.findall(kernel.read(root / "proc/stat") or "")}
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    return [found.get(cpu, 0) * tick for cpu in range(max(found, default=-1) + 1)]
