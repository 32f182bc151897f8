# SPDX-License-Identifier: GPL-2.0-only
import os
from pathlib import Path

from toolkit.capture import steal

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def _stat(root: Path, *lines: str) -> Path:
    (root / "proc").mkdir()
    (root / "proc/stat").write_text("\n".join([*lines, "intr 7 0 3", "ctxt 12", ""]))
    return root


def test_steal_time_is_that_of_each_cpu(tmp_path: Path) -> None:
    """CPU 1 is off, so the kernel does not list it."""
    root = _stat(tmp_path, "cpu  9 0 9 9 0 0 9 7 0 0", "cpu0 5 0 5 5 0 0 5 3 0 0", "cpu2 4 0 4 4 0 0 4 4 1 0")
    assert steal.read(root) == [3 * TICK_NS, 0, 4 * TICK_NS]


def test_without_the_column_or_the_file_nothing_is_told(tmp_path: Path) -> None:
    assert steal.read(tmp_path) == []
    assert steal.read(_stat(tmp_path, "cpu  9 0 9 9 0 0 9", "cpu0 5 0 5 5 0 0 5")) == []
