# SPDX-License-Identifier: GPL-2.0-only
"""The process beside a machine that is one of its NICs: started, asked, and ended with the machine.

``python -m vm.models.model up MACHINE DIRECTORY`` and ``down DIRECTORY`` are for the Vagrantfile, where
libvirt starts QEMU.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from toolkit.errors import UserError
from vm import machines
from vm.machines import Nic
from vm.models.qlge_nic.control import ask as _ask
from vm.paths import CHECKOUT
from vm.qemu import emulator
from vm.qemu.command import mac
from vm.qemu.files import Files

READY_SECONDS = 30
GRACE_SECONDS = 5.0


def command(number: int, nic: Nic, files: Files) -> list[str]:
    """The command that runs a NIC's model.

    :param number: of the NIC, from 0.
    :param nic: whose options are the model's.
    """
    words = [sys.executable, "-m", "vm.models.qlge_nic", "serve", str(files.device(number)), "--once"]
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
        if not _is_model(pid, files):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + GRACE_SECONDS
        while _is_model(pid, files) and time.monotonic() < deadline:
            time.sleep(0.02)


def ask(files: Files, number: int, *words: str) -> dict[str, Any]:
    """Ask the model of a NIC for its counts, or tell it something: ``stats``, ``link down``.

    :raises UserError: if it does not run, or knows no such words.
    """
    answer: dict[str, Any] = _ask(files.control(number), *words)
    return answer


def _is_model(pid: int, files: Files) -> bool:
    """Whether the process is a model of that run directory, not another of the same number, nor a zombie."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(word.startswith(os.fsencode(files.directory / "device")) for word in words)


def up(machine: machines.Machine, files: Files) -> None:
    """Leave ``qemu``, a command that starts a QEMU new enough for a machine, and start its own NICs.

    Does nothing while they run.

    :param files: a directory through which others may pass.
    """
    if any(_is_model(pid, files) for pid in _started(files)):
        return
    words = emulator.ensure(copy=files.directory / "tree")
    program = shutil.which(words[0]) or words[0]
    wrapper = files.directory / "qemu"
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.join([program, *words[1:]])} "$@"\n')
    wrapper.chmod(0o755)
    pids = {number: start(number, nic, files) for number, nic in enumerate(machine.nics) if nic.ours}
    (files.directory / "models").write_text(" ".join(map(str, pids.values())))
    for number in pids:
        # libvirt's QEMU is another user.
        files.device(number).chmod(0o666)


def down(files: Files) -> None:
    """End the NICs that :func:`up` started, as far as they have not ended with their machine."""
    for pid in _started(files):
        stop(pid, files)


def _started(files: Files) -> list[int]:
    try:
        return [int(pid) for pid in (files.directory / "models").read_text().split()]
    except FileNotFoundError:
        return []


def main() -> None:
    try:
        match sys.argv[1:]:
            case ["up", name, directory]:
                up(machines.find(name), Files(Path(directory)))
            case ["down", directory]:
                down(Files(Path(directory)))
            case _:
                raise UserError("usage: python -m vm.models.model up MACHINE DIRECTORY | down DIRECTORY")
    except UserError as error:
        print(f"vm.models.model: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
