# SPDX-License-Identifier: GPL-2.0-only
import os
import threading
import time

from vm.inside.scenarios import kept


class Program:
    """Each byte in a pipe is a frame."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()

    def fileno(self) -> int:
        return self.read

    def give_back(self) -> int:
        return len(os.read(self.read, 100)) if kept.is_readable(self, 0) else 0


def test_buffers_are_handed_back_as_frames_come_and_not_after_the_time() -> None:
    program = Program()
    threading.Timer(0.1, os.write, (program.write, b"ab")).start()
    threading.Timer(0.2, os.write, (program.write, b"c")).start()
    began = time.monotonic()
    assert kept.receive(program, 0.5) == 3
    assert 0.5 <= time.monotonic() - began < 5
