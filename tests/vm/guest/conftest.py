# SPDX-License-Identifier: GPL-2.0-only
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vm import guest
from vm.guest import boot, ssh
from vm.image import image
from vm.qemu import emulator

Play = Callable[[str], None]

# Binds what a QEMU would, and answers to the monitor's quit, unless it is told to be stubborn.
QEMU = """
import pathlib, signal, socket, sys
words = sys.argv[1:]
pidfile = words[words.index("-pidfile") + 1]
{body}
"""
OBEDIENT = """
monitor = socket.socket(socket.AF_UNIX)
monitor.bind(str(pathlib.Path(pidfile).with_name("qmp")))
monitor.listen()
connection, _ = monitor.accept()
connection.sendall(b"{}")
while b"quit" not in connection.recv(4096): pass
"""
STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: signal.pause()"
DYING = 'print("qemu: no such device", file=sys.stderr); sys.exit(1)'
PANICKING = """
console = [word for word in words if "console.log" in word][0].partition("path=")[2]
pathlib.Path(console).write_text("Kernel panic - not syncing: oops\\n" + "register\\n" * 30)
"""


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Sockets lie in it, whose paths must be short."""
    with tempfile.TemporaryDirectory(prefix="rx-") as path:
        yield Path(path)


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Puts a program in QEMU's place, and lets a machine count as booted when that runs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(
        image, "ensure", lambda _: image.Image("k", *map(Path, ("/disk", "/kernel", "/initrd", "/tools")))
    )
    monkeypatch.setattr(ssh, "public_key", lambda: "key")
    monkeypatch.setattr(guest.Guest, "sync", lambda _: None)
    monkeypatch.setattr(emulator, "ensure", lambda: [emulator.BINARY])

    def put(body: str) -> None:
        program = tmp_path / "qemu"
        source = tmp_path / "qemu.py"
        source.write_text(QEMU.format(body=body))
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {source} "$@"\n')
        program.chmod(0o755)
        monkeypatch.setattr(emulator, "BINARY", str(program))

    return put


@pytest.fixture
def booted(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(started: guest.Guest, _: object) -> None:
        deadline = time.monotonic() + 10
        while not started.alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)

    monkeypatch.setattr(boot, "_wait_for_ssh", wait)


def ends(pid: int) -> bool:
    """Tell whether a process that was told to end does; the kernel may take a moment for it."""
    stat = Path(f"/proc/{pid}/stat")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if "Z" in stat.read_text():
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False
