# SPDX-License-Identifier: GPL-2.0-only
"""A command in a machine on a terminal, as a person sees it."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyte

from vm import guest

PATIENCE = 240


class Terminal:
    """What a person sees of a command with a terminal: it is fed all that the command writes."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int) -> None:
        self.process, self._fd = process, fd
        self.screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self.screen)
        self.written = b""

    def resize(self, columns: int, rows: int) -> None:
        """Gives the window another size; the command hears of it."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)
        self.process.send_signal(signal.SIGWINCH)

    def press(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def text(self) -> str:
        return "\n".join(self.screen.display)

    def wait(self, seen: Callable[[str], bool]) -> str:
        """Return the screen, once `seen` is true of it."""
        if not self.shows(seen, PATIENCE):
            raise AssertionError(f"not seen; the screen is:\n{self.text()}")
        return self.text()

    def shows(self, seen: Callable[[str], bool], seconds: float) -> bool:
        """Tell whether `seen` becomes true of the screen within so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if seen(self.text()):
                return True
            if not self.read():
                status = self.process.wait()
                raise AssertionError(f"it ended with status {status}; the screen is:\n{self.text()}")
        return False

    def read(self) -> bool:
        """Take in what the command writes, and tell whether it still has the terminal."""
        if select.select([self._fd], [], [], 0.2)[0]:
            try:
                data = os.read(self._fd, 65536)
            except OSError:
                return False
            self.written += data
            self._stream.feed(data)
            return bool(data)
        return True


@contextmanager
def terminal(machine: guest.Guest, command: str) -> Iterator[Terminal]:
    """A command in a machine, on a terminal of 80 columns and 24 rows."""
    with on_terminal([*machine.ssh_argv("-tt", alone=True), "--", command]) as shown:
        yield shown


@contextmanager
def on_terminal(words: list[str]) -> Iterator[Terminal]:
    """A command on this machine, on such a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        try:
            yield Terminal(process, ours)
        finally:
            process.terminate()
            os.close(ours)


def is_clean(shown: Terminal) -> bool:
    """Whether the terminal is as it was: its own screen, its cursor, no mouse, and echo."""
    left = [
        shown.written.rfind(b"\x1b[?%dl" % mode) >= shown.written.rfind(b"\x1b[?%dh" % mode)
        for mode in (1049, 1000, 1003)
    ]
    return all(left) and shown.written.rfind(b"\x1b[?25h") > shown.written.rfind(b"\x1b[?25l")
