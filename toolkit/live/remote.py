# SPDX-License-Identifier: GPL-2.0-only
"""The recorder of another machine, over ssh: a toolkit there sends what the recorder writes."""

from __future__ import annotations

import os
import select
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, NamedTuple, cast
from urllib.parse import urlsplit

from toolkit.errors import UserError
from toolkit.live.following import WAIT_S, Arriving, follow
from toolkit.printable import printable
from toolkit.trace.reader import NewerFormatError, TraceReader

_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""The end of an Arrow stream."""

_NOT_FOUND = 127
"""Exit status of a shell that did not find a command."""


class Address(NamedTuple):
    """A recorder on another machine: the `destination`, as ssh takes it; and the directory of its traces."""

    destination: str
    directory: Path


def parse(text: str, directory: Path) -> Address:
    """Read ssh://[USER@]HOST[:PORT][/DIR].

    :param directory: the one that is meant without DIR.
    :raises UserError: if it is no such address.
    """
    try:
        parts = urlsplit(text)
        if parts.hostname and not (parts.query or parts.fragment or parts.password):
            there = directory if parts.path in ("", "/") else Path(parts.path)
            return Address(f"ssh://{parts.netloc}", there)
    except ValueError:
        pass
    raise UserError(f"{text}: write ssh://HOST, or ssh://USER@HOST:PORT/DIR.")


def send(directory: Path, pipe: int) -> None:
    """Write the segments of a recorder as they grow, one after the other, until it has ended.

    Only whole batches are written, so each segment arrives as a trace, whatever became of the file.

    :param pipe: a descriptor; sending ends when nobody reads it any more.
    :raises UserError: if there is no recorder, or its files may not be read.
    """
    # Nothing is asked for but what poll(2) always tells: that the other end is closed.
    other_end = select.poll()
    other_end.register(pipe, 0)
    with suppress(BrokenPipeError):
        for reader, file in follow(directory, lambda: not other_end.poll(WAIT_S * 1000)):
            sent = 0
            for _ in reader:
                while sent < reader.tell():
                    sent += os.write(pipe, os.pread(file, reader.tell() - sent, sent))
            if reader.damage:
                # It stops without its last batch.
                os.write(pipe, _END)


def receive(address: Address, goes_on: Callable[[], bool]) -> Iterator[TraceReader]:
    """Yield the segment that the recorder of another machine writes now, and each that follows.

    :param goes_on: tells whether to go on.
    :raises UserError: if ssh fails, or there is no recorder.
    """
    words = ["toolkit", "watch", "--recorder", "--stream", "--directory", str(address.directory)]
    with TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                # Not the tty of the screen: its keys are not for ssh.
                ["ssh", "-T", address.destination, shlex.join(words)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
            )
        except FileNotFoundError:
            raise UserError("ssh is not installed; install the distribution's openssh-client.") from None
        with process:
            try:
                yield from _segments(process, address, goes_on)
                status = process.wait() if goes_on() else 0
            finally:
                process.terminate()
        if status:
            said.seek(0)
            raise UserError(_reason(address.destination, status, said.read().decode(errors="replace")))


def _segments(
    process: subprocess.Popen[bytes], address: Address, goes_on: Callable[[], bool]
) -> Iterator[TraceReader]:
    """Yield what comes from the other machine, until nothing more does."""
    assert process.stdout
    pipe = process.stdout.fileno()
    os.set_blocking(pipe, False)

    def more(size: int) -> bytes | None:
        try:
            return os.read(pipe, size)
        except BlockingIOError:
            return None

    def go_on() -> bool:
        select.select([pipe], [], [], WAIT_S)
        return goes_on()

    stream = Arriving(more, go_on)
    while not stream.is_over():
        try:
            reader = TraceReader(f"{address.destination}{address.directory}", cast(BinaryIO, stream))
        except NewerFormatError:
            raise
        except UserError as error:
            if not goes_on():
                return
            raise UserError(
                f"{address.destination} sends something else than a trace: "
                "a shell that is not on a terminal must print nothing there."
            ) from error
        yield reader


def _reason(destination: str, status: int, said: str) -> str:
    """Return in one sentence why ssh, or the toolkit there, ended with a status.

    :param said: what they wrote; the last line tells.
    """
    if status == _NOT_FOUND:
        return f"{destination} has no toolkit; install it there, for the PATH of every shell."
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1] if lines else f"ssh ended with status {status}"
    return f"{destination}: {printable(last.removeprefix('toolkit: error: ').rstrip('.'))}."
