# SPDX-License-Identifier: GPL-2.0-only
"""A command that runs while a trace does."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from toolkit.errors import UserError

#: Seconds between SIGTERM and SIGKILL for a command that does not end.
PATIENCE = 10.0

_OOM = Path("/proc/self/oom_score_adj")


def require(command: Sequence[str]) -> None:
    """Make sure that a command can be run; an empty command is none.

    :raises UserError: if there is no such program.
    """
    if command and not shutil.which(command[0]):
        raise UserError(f"there is no program {command[0]!r} to run: give its path.")


@contextmanager
def running(command: Sequence[str], oom_score_adj: int) -> Iterator[subprocess.Popen[bytes] | None]:
    """Run a command as the user of this process; end it at the end of the block if it still runs.

    :param command: the program and its arguments; empty: None is yielded.
    :param oom_score_adj: of the command. With the tracer's own value the OOM killer would spare the command,
        which would change what is traced.
    :raises UserError: if the command cannot be started.
    """
    if not command:
        yield None
        return
    child = _start(command, oom_score_adj)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(PATIENCE)
            if child.poll() is None:
                child.kill()
                child.wait()


def exit_status(child: subprocess.Popen[bytes]) -> int:
    """Return the exit status of a command that has ended, as a shell does: 128 + n if signal n ended it."""
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def oom_score_adj() -> int:
    """Return how this process is ranked by the OOM killer."""
    return int(_OOM.read_text())


def _start(command: Sequence[str], wanted: int) -> subprocess.Popen[bytes]:
    own = oom_score_adj()
    try:
        # The child inherits the value, and so do its children: to set it later would be too late for them.
        _OOM.write_text(str(wanted))
        return subprocess.Popen(command)
    except OSError as error:
        raise UserError(f"cannot run {command[0]}: {error.strerror}.") from error
    finally:
        _OOM.write_text(str(own))
