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

# Programs in QEMU's place. SIGTERM ends none: its monitor ends OBEDIENT, and only SIGKILL ends STUBBORN.
QEMU = """
import json, pathlib, signal, socket, sys
words = sys.argv[1:]
pidfile = words[words.index("-pidfile") + 1]
here = pathlib.Path(__file__).parent
{body}
"""
OBEDIENT = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
monitor = socket.socket(socket.AF_UNIX)
monitor.bind(str(pathlib.Path(pidfile).with_name("qmp")))
monitor.listen()
(here / "ready").touch()
connection, _ = monitor.accept()
with connection.makefile("rw") as lines:
    for command in map(json.loads, lines):
        if command["execute"] == "quit":
            (here / "quit").touch()
        print(json.dumps({"return": {}, "id": command["id"]}), file=lines, flush=True)
        if command["execute"] == "quit":
            break
"""
STUBBORN = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
(here / "ready").touch()
while True: signal.pause()
"""
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
    """Puts a program in QEMU's place."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(
        image, "ensure", lambda _: image.Image("k", *map(Path, ("/disk", "/kernel", "/initrd", "/tools")))
    )
    monkeypatch.setattr(ssh, "public_key", lambda: "key")
    monkeypatch.setattr(guest.Guest, "sync", lambda _: None)
    monkeypatch.setattr(emulator, "ensure", lambda _: [emulator.BINARY])

    def put(body: str) -> None:
        program = tmp_path / "qemu"
        source = tmp_path / "qemu.py"
        source.write_text(QEMU.replace("{body}", body))
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {source} "$@"\n')
        program.chmod(0o755)
        monkeypatch.setattr(emulator, "BINARY", str(program))

    return put


@pytest.fixture
def booted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a machine count as booted when the program in QEMU's place says that it is ready."""

    def wait(*_: object) -> None:
        deadline = time.monotonic() + 60
        while not (tmp_path / "ready").exists():
            assert time.monotonic() < deadline, "the program did not start"
            time.sleep(0.01)

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
