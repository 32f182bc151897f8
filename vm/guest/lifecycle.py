# SPDX-License-Identifier: GPL-2.0-only
"""The machines of this checkout that were started: which there are, and how one is stopped.

A machine is a QEMU process in the background and a run directory; nothing else remembers it.
"""

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from toolkit.errors import UserError
from vm.cmd import cmd
from vm.guest import programs
from vm.guest.guest import Guest, namespace
from vm.models import model
from vm.paths import locked, of_checkout, run_directory
from vm.qemu import monitor, tap
from vm.qemu.files import Files

GRACE_SECONDS = 5.0


def known() -> list[Guest]:
    """The machines of this checkout that were started and not stopped; some may have died."""
    guests = (read(path) for path in sorted((of_checkout() / "run").glob("*/state.json")))
    return [guest for guest in guests if guest is not None]


def running() -> list[Guest]:
    """The machines of this checkout that run now."""
    return [guest for guest in known() if guest.alive()]


def find(name: str) -> Guest:
    """The running machine of that name.

    :raises UserError: if there is none.
    """
    guest = read(Files(run_directory(name)).state)
    if guest is None:
        raise UserError(f"{name} is not running: start it with `python -m vm up {name}`.")
    if not guest.alive():
        raise UserError(f"{name} has died; {last_words(guest)}")
    return guest


def down(guest: Guest) -> None:
    """Stop a machine and forget it, but for the programs that it has compiled."""
    with locked(guest.name):
        if guest.alive():
            programs.take(guest)
        stop(guest)
        forget(guest.name)


def stop(guest: Guest) -> None:
    """End exactly this QEMU, by its monitor, then by signals; and after it the NICs that are our own."""
    files = guest.files
    _close_ssh(guest)
    ends: list[Callable[[], None]] = [
        lambda: _quit(files.qmp),
        lambda: _kill(guest, signal.SIGTERM),
        lambda: _kill(guest, signal.SIGKILL),
    ]
    for end in ends:
        if not guest.alive():
            break
        end()
        deadline = time.monotonic() + GRACE_SECONDS
        while guest.alive() and time.monotonic() < deadline:
            time.sleep(0.05)
    if guest.alive():
        raise UserError(f"{guest.name} cannot be stopped (pid {guest.pid}).")
    for pid in guest.models:
        model.stop(pid, files)


def forget(name: str) -> None:
    """Delete what a machine that has ended has left."""
    tap.delete_namespace(namespace(name))
    shutil.rmtree(run_directory(name), ignore_errors=True)


def read(state: Path) -> Guest | None:
    """Return the machine of a state.json; None if there is none."""
    try:
        found = json.loads(state.read_text())
        return Guest(**{**found, "models": tuple(found.get("models", ()))})
    except (OSError, ValueError, TypeError):
        return None


def last_words(guest: Guest) -> str:
    """Return the end of what a machine's console, QEMU and models have printed."""
    lines = []
    files = guest.files
    for path in (*map(files.model, range(len(guest.models))), files.log, files.console):
        with contextlib.suppress(OSError):
            said = path.read_text(errors="replace").strip().splitlines()
            # What follows the reason is a page of registers.
            lines += [line for line in said[:-6] if "Kernel panic" in line or "BUG:" in line] + said[-6:]
    return f"its last words were (see {guest.files.console}):\n  " + "\n  ".join(lines or ["(none)"])


def _close_ssh(guest: Guest) -> None:
    if (guest.files.directory / "ssh").exists():
        cmd(guest.ssh_argv("-O", "exit"), check=False, timeout=10)


def _quit(path: Path) -> None:
    with contextlib.suppress(OSError, UserError):
        monitor.tell(path, "quit", {})


def _kill(guest: Guest, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(guest.pid, number)
