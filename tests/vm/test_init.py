# SPDX-License-Identifier: GPL-2.0-only
import subprocess
import sys
from pathlib import Path

import pytest

from vm.paths import CHECKOUT


@pytest.mark.parametrize("command", ["scenarios.knob", "xen", "xen.echo", "aoe", "qlge_nic", "wire"])
def test_command_is_found_by_its_short_name(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"vm.{command}", "--help"], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout.lower()


def test_nothing_is_imported_by_a_short_name() -> None:
    """A module that is imported by two names is there twice."""
    short = ("from vm.scenarios", "from vm.xen", "from vm.aoe", "from vm.qlge_nic")
    folders = (CHECKOUT / name for name in ("bench", "tests", "vm"))
    sources: list[Path] = [path for folder in folders for path in folder.rglob("*.py")]
    assert sources
    lines = [line for path in sources for line in path.read_text().splitlines()]
    assert [line for line in lines if line.lstrip().startswith(short)] == []
