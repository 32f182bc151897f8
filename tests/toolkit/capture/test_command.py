# SPDX-License-Identifier: GPL-2.0-only
import signal
import sys
import time
from pathlib import Path

import pytest

from toolkit.capture import command
from toolkit.errors import UserError


def test_program_that_is_not_there_is_named() -> None:
    command.require([])
    command.require([sys.executable])
    with pytest.raises(UserError, match="there is no program 'no-such-program' to run"):
        command.require(["no-such-program", "--help"])


def test_no_command_is_none() -> None:
    with command.running([], 0) as child:
        assert child is None


@pytest.mark.parametrize(("ends", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137)])
def test_exit_status_is_that_of_a_shell(ends: str, status: int) -> None:
    with command.running(["sh", "-c", ends], command.oom_score_adj()) as child:
        assert child
        child.wait()
    assert command.exit_status(child) == status


def test_command_that_still_runs_is_terminated() -> None:
    with command.running(["sleep", "600"], command.oom_score_adj()) as child:
        assert child and child.poll() is None
    assert child.returncode == -signal.SIGTERM
    assert command.exit_status(child) == 128 + signal.SIGTERM


def test_command_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "PATIENCE", 0.1)
    ready = tmp_path / "ready"
    ignores = f"trap '' TERM; : > {ready}; while :; do sleep 1; done"
    with command.running(["sh", "-c", ignores], command.oom_score_adj()) as child:
        while not ready.exists():
            time.sleep(0.01)
    assert child and child.returncode == -signal.SIGKILL


def test_command_has_the_rank_that_the_tracer_had_before(tmp_path: Path) -> None:
    """A rank may be raised by anybody, and lowered again down to where it was."""
    rank, wanted = tmp_path / "rank", command.oom_score_adj() + 1
    with command.running(["sh", "-c", f"cat /proc/self/oom_score_adj > {rank}"], wanted) as child:
        assert child
        child.wait()
    assert int(rank.read_text()) == wanted
    assert command.oom_score_adj() == wanted - 1


def test_file_that_cannot_be_run_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    with (
        pytest.raises(UserError, match=r"cannot run .*text: Permission denied"),
        command.running([str(tmp_path / "text")], command.oom_score_adj()),
    ):
        pass
