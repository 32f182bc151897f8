# SPDX-License-Identifier: GPL-2.0-only
"""Start and stop machines, and reach into a running one."""

from vm.guest.boot import command_line, machine, up
from vm.guest.guest import PYTHON, Clock, Guest, join
from vm.guest.lifecycle import down, find, known, running

__all__ = [
    "PYTHON",
    "Clock",
    "Guest",
    "command_line",
    "down",
    "find",
    "join",
    "known",
    "machine",
    "running",
    "up",
]
