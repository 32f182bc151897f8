# SPDX-License-Identifier: GPL-2.0-only
"""What the shells are told; and in bash, what it makes of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit import completion
from toolkit.drivers import names

TOOLKIT = Path(sys.executable).with_name("toolkit")


def _asked(**environment: str) -> str:
    done = subprocess.run([TOOLKIT], env={**os.environ, **environment}, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def bash_script() -> str:
    """Return the script that bash reads."""
    return _asked(_TOOLKIT_COMPLETE="source_bash")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(shell: str) -> None:
    script = _asked(_TOOLKIT_COMPLETE=f"source_{shell}")
    assert f"complete_{shell}" in script and "toolkit" in script


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("toolkit an", ["analyze"]),
        ("toolkit trace virt", ["virtio_net"]),
        ("toolkit trace virtio_net --detail f", ["full"]),
        ("toolkit trace virtio_net -d l", ["lo"]),
        ("toolkit doctor q", ["qlge"]),
        ("toolkit export --perf", ["--perfetto"]),
    ],
)
def test_bash_completes(bash_script: str, line: str, expected: list[str]) -> None:
    words = line.split()
    script = f"""
        {bash_script}
        COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}
        _toolkit_completion {TOOLKIT}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == expected


def test_everything_is_offered_before_the_first_letter_and_nothing_after_a_wrong_one() -> None:
    assert completion.drivers("") == names()
    assert completion.details("") == ["normal", "full"]
    assert completion.devices("") == sorted(path.name for path in Path("/sys/class/net").iterdir())
    assert completion.drivers("x1") == completion.details("fulll") == completion.devices("no such") == []
