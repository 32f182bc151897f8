# SPDX-License-Identifier: GPL-2.0-only
"""Checks of outputs: none replaces a file that it was made from, even with --force."""

import fcntl
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from toolkit.errors import UserError, already_there


def refuse_inputs(outputs: Iterable[Path | None], inputs: Iterable[Path | None]) -> None:
    """Make sure that no output is an input, or another output, by whatever name or link.

    :param outputs: files that will be written; None for an output that was not asked for.
    :param inputs: files that are read.
    :raises UserError: if an output is one of the others.
    """
    read = list(filter(None, inputs))
    written: dict[Path, Path] = {}
    for output in filter(None, outputs):
        if same := next((file for file in read if _is_same(output, file)), None):
            name = "is read" if output == same else f"is {same}, which is read"
            raise UserError(f"{output} {name}: give another name for what is written.")
        if (target := _resolved(output)) in written:
            raise UserError(f"{output} would be written twice, also as {written[target]}; give another name.")
        written[target] = output


def _is_same(output: Path, file: Path) -> bool:
    """Tell whether two names are of one file; links of either kind are followed."""
    try:
        return output.samefile(file)
    except OSError:
        return _resolved(output) == _resolved(file)


def _resolved(file: Path) -> Path:
    try:
        return file.resolve()
    except (OSError, RuntimeError):
        # A loop of links: the path cannot be written either.
        return file.absolute()


def refuse_existing(outputs: Iterable[Path]) -> None:
    """Make sure that no file of a directory will be overwritten.

    :raises UserError: if one of the outputs exists.
    """
    for file in outputs:
        if file.exists():
            raise UserError(f"{file} exists; give another directory, or --force to replace it.")


@contextmanager
def create(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """Open an output for writing; a new file that was not written to its end is removed.

    :raises UserError: if the file exists and not `force`.
    """
    try:
        file = path.open("wb" if force else "xb")
    except FileExistsError:
        raise already_there(path) from None
    with file:
        try:
            yield file
        except BaseException:
            if not force:
                path.unlink()
            raise


LOCK = ".lock"
"""Who has a directory alone has a lock on this file in it."""


@contextmanager
def alone(directory: Path, busy: str) -> Iterator[None]:
    """Have a directory for this block alone; the kernel ends that with the process, however it ends.

    :param busy: the sentence that is said if another process has it.
    :raises UserError: if another process has it.
    """
    with (directory / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(busy) from None
        yield


def is_locked(file: int) -> bool:
    """Tell whether another open file has the lock of this one (flock(2)); take it no longer than that.

    :param file: its descriptor; to be allowed to read it is enough.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


def check_new(path: Path, *, force: bool) -> None:
    """Make sure that a trace can be made, before work that takes long.

    :raises UserError: if the file exists and not `force`, or its directory takes no file.
    """
    if path.exists() and not force:
        raise already_there(path)
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"cannot make {path}: {error.strerror}.") from error
