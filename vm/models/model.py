# SPDX-License-Identifier: GPL-2.0-only
"""The process beside a machine that is one of its NICs: started, asked, and ended with the machine."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from toolkit.errors import UserError
from vm.machines import Nic
from vm.models.client import ask as ask_at
from vm.paths import CHECKOUT
from vm.qemu.command import mac
from vm.qemu.files import Files

READY_SECONDS = 30
GRACE_SECONDS = 5.0


def command(number: int, nic: Nic, files: Files) -> list[str]:
    """The command that runs a NIC's model.

    :param number: of the NIC, from 0.
    :param nic: whose options are the model's.
    """
    words = [sys.executable, "-m", f"vm.models.{nic.model}_nic", "serve", str(files.device(number)), "--once"]
    words += ["--wire", str(files.nic(number)), "--peer", str(files.peer(number))]
    words += ["--control", str(files.control(number)), "--mac", mac(number)]
    for option, value in nic.options.items():
        words += [f"--{option}", value]
    return words


def start(number: int, nic: Nic, files: Files) -> int:
    """Start a NIC's model, and wait until a machine may connect to it.

    :return: its process.
    :raises UserError: if it does not start, with what it said last.
    """
    log = files.model(number)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(number, nic, files),
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + READY_SECONDS
    # The device's socket is the last that it makes.
    while not files.device(number).exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            said = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise UserError(f"the model of NIC {number} did not start: {' | '.join(said) or 'no message'}")
        time.sleep(0.05)
    return process.pid


def stop(pid: int, files: Files) -> None:
    """End exactly this model, if it has not ended with its machine."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not runs(pid, files):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + GRACE_SECONDS
        while runs(pid, files) and time.monotonic() < deadline:
            time.sleep(0.02)


def ask(files: Files, number: int, *words: str) -> dict[str, Any]:
    """Ask the model of a NIC for its counts, or tell it something: ``stats``, ``link down``.

    :raises UserError: if it does not run, or knows no such words.
    """
    return ask_at(files.control(number), *words)


def runs(pid: int, files: Files) -> bool:
    """Whether the process is a model of that run directory, not another of the same number, nor a zombie."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(word.startswith(os.fsencode(files.directory / "device")) for word in words)
