# SPDX-License-Identifier: GPL-2.0-only
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.errors import UserError
from vm.cmd import cmd, output


def test_both_outputs_and_the_status_are_kept() -> None:
    done = cmd(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert output("echo", "two", "words") == "two words\n"


def test_standard_input_is_the_text_or_empty() -> None:
    assert cmd(["cat"], stdin="some text").stdout == "some text"
    assert cmd(["cat"], timeout=10).stdout == ""


def test_paths_are_arguments(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    assert cmd(["cat", tmp_path / "file"]).stdout == "hello"


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("exit 2", "sh failed with status 2: no message"),
        ("echo out; echo err >&2; exit 1", "sh failed with status 1: err"),
        ("echo out; exit 1", "sh failed with status 1: out"),
        ("seq 9 >&2; exit 1", "sh failed with status 1: 7 | 8 | 9"),
        ("kill -9 $$", "sh failed with status -9: no message"),
    ],
)
def test_failure_is_one_sentence(script: str, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        cmd(["/bin/sh", "-c", script])
    assert str(error.value) == sentence


def test_missing_program_is_one_sentence() -> None:
    with pytest.raises(UserError, match="no-such-program is not installed: run `make setup`"):
        cmd(["no-such-program"], check=False)


def test_command_that_hangs_is_ended() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        cmd([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.2)
