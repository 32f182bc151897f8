# SPDX-License-Identifier: GPL-2.0-only
"""Run commands, in the vocabulary of the kernel's selftests (``net/lib/py``)."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from toolkit.errors import UserError


def cmd(
    argv: Sequence[str | Path], *, check: bool = True, stdin: str | None = None, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command and collect what it prints.

    :param argv: program and arguments.
    :param check: raise when the exit status is not 0.
    :param stdin: text for its standard input; nothing by default.
    :param timeout: seconds.
    :return: the completed process.
    :raises UserError: if the program is missing or, with ``check``, if it failed.
    """
    try:
        done = subprocess.run(
            [str(word) for word in argv],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except FileNotFoundError:
        raise UserError(f"{argv[0]} is not installed: run `make setup`.") from None
    if check and done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:] or ["no message"]
        raise UserError(f"{Path(argv[0]).name} failed with status {done.returncode}: {' | '.join(said)}")
    return done


def output(*words: str) -> str:
    """Return what a command prints, as :func:`cmd` runs it."""
    return cmd(words).stdout
