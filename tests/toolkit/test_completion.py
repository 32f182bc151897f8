# SPDX-License-Identifier: GPL-2.0-only
"""What the shells are told; and in bash, what it makes of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Run
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
    ("shell", "file"),
    [
        ("bash", ".bash_completions/toolkit.sh"),
        ("zsh", ".zfunc/_toolkit"),
        ("fish", ".config/fish/completions/toolkit.fish"),
    ],
)
def test_the_completion_that_is_asked_for_is_installed_in_whatever_shell(
    shell: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/bash")
    code, out, _ = run("--install-completion", shell)
    assert code == 0
    assert out.startswith(f"{shell} completion installed in {tmp_path / file}")
    assert f"complete_{shell}" in (tmp_path / file).read_text()
    assert [path.name for path in tmp_path.glob("**/*toolkit*")] == [Path(file).name]
    assert f"complete_{shell}" in run("--show-completion", shell)[1]


def test_no_shell_or_an_unknown_one_is_a_wrong_option(run: Run) -> None:
    assert run("--install-completion")[0] == 2
    assert run("--install-completion", "csh")[0] == 2


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("toolkit an", ["analyze"]),
        ("toolkit trace virt", ["virtio_net"]),
        ("toolkit trace virtio_net --detail f", ["full"]),
        ("toolkit trace virtio_net -d l", ["lo"]),
        ("toolkit doctor ql", ["qlge"]),
        ("toolkit export --perf", ["--perfetto"]),
        ("toolkit watch --rec", ["--recorder"]),
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
