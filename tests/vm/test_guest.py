# SPDX-License-Identifier: GPL-2.0-only
import itertools
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import UserError
from vm import emulator, guest, machines, qemu
from vm.image import image

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
    monkeypatch.setattr(guest, "_public_key", lambda: "key")
    monkeypatch.setattr(guest.Guest, "sync", lambda _: None)
    monkeypatch.setattr(emulator, "ensure", lambda: [qemu.BINARY])

    def put(body: str) -> None:
        program = tmp_path / "qemu"
        source = tmp_path / "qemu.py"
        source.write_text(QEMU.format(body=body))
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {source} "$@"\n')
        program.chmod(0o755)
        monkeypatch.setattr(qemu, "BINARY", str(program))

    return put


@pytest.fixture
def booted(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(started: guest.Guest, _: object) -> None:
        deadline = time.monotonic() + 10
        while not started.alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)

    monkeypatch.setattr(guest, "_wait_for_ssh", wait)


@pytest.mark.usefixtures("booted")
@pytest.mark.parametrize("body", [OBEDIENT, STUBBORN], ids=["by its monitor", "by force"])
def test_machine_goes_up_is_listed_and_goes_down(
    body: str, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(body)
    monkeypatch.setattr(guest, "GRACE_SECONDS", 0.3)
    started = guest.up("one", "virtio-net", accel="tcg")
    assert guest.running() == [started]
    assert guest.find("one") == started
    assert started.files.swap.stat().st_size == 4 << 30
    assert started.files.swap.stat().st_blocks == 0
    with pytest.raises(UserError, match="already running"):
        guest.up("one", "virtio-net", accel="tcg")
    guest.down(started)
    assert not started.alive()
    assert guest.running() == []
    assert not started.files.directory.exists()


@pytest.mark.parametrize(("body", "words"), [(DYING, "no such device"), (PANICKING, "Kernel panic")])
def test_a_machine_that_dies_says_why(body: str, words: str, play: Play) -> None:
    play(body)
    with pytest.raises(UserError, match=words):
        guest.up("one", "virtio-net", accel="tcg")
    assert guest.running() == []
    with pytest.raises(UserError, match=f"one has died;(.|\n)*{words}"):
        guest.find("one")
    (dead,) = guest.known()
    guest.down(dead)
    assert guest.known() == []


def test_a_machine_that_never_answers_is_ended(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    play(STUBBORN)
    monkeypatch.setattr(guest, "BOOT_SECONDS", 1)
    monkeypatch.setattr(guest, "GRACE_SECONDS", 0.3)
    with pytest.raises(UserError, match="did not answer within 1 s"):
        guest.up("one", "virtio-net", accel="tcg")
    state = json.loads((guest.run_directory("one") / "state.json").read_text())
    assert _ends(state["pid"])


@pytest.mark.usefixtures("booted")
@pytest.mark.parametrize("body", [OBEDIENT, STUBBORN], ids=["by its monitor", "by force"])
def test_a_nic_of_ours_ends_with_its_machine(body: str, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    play(body)
    monkeypatch.setattr(guest, "GRACE_SECONDS", 0.3)
    started = guest.up("one", "qlge", accel="tcg")
    (pid,) = started.models
    assert started.wire(0).is_socket()
    assert started.ask("stats")["received"] == 0
    assert guest.find("one") == started
    guest.down(started)
    assert _ends(pid)


def test_a_nic_of_ours_ends_with_a_machine_that_does_not_start(play: Play) -> None:
    play(DYING)
    with pytest.raises(UserError, match="no such device"):
        guest.up("one", "qlge", accel="tcg")
    (dead,) = guest.known()
    assert all(_ends(pid) for pid in dead.models)
    assert "ready" in dead.files.model(0).read_text()


def _ends(pid: int) -> bool:
    """:return: whether a process that was told to end does; the kernel may take a moment for it."""
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


@pytest.mark.usefixtures("play")
def test_a_process_of_the_same_number_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        files = qemu.Files(guest.run_directory("one"))
        files.directory.mkdir(parents=True)
        stale = guest.Guest("one", "virtio-net", other.pid, 1, "tcg", 0)
        files.state.write_text(json.dumps(asdict(stale)))
        assert not stale.alive()
        assert guest.running() == []
        guest.down(stale)
        assert other.poll() is None
        other.kill()


@pytest.mark.usefixtures("play")
@pytest.mark.parametrize("name", ["../x", "", "a b", "x" * 50, "-rf"])
def test_a_name_stays_a_directory(name: str) -> None:
    with pytest.raises(UserError, match="is no name for a machine"):
        guest.up(name, "virtio-net", accel="tcg")


def test_an_unknown_accelerator_is_one_sentence(play: Play) -> None:
    play(OBEDIENT)
    with pytest.raises(UserError, match="xen is no accelerator"):
        guest.up("one", "virtio-net", accel="xen")


@pytest.mark.usefixtures("play")
def test_machine_that_does_not_run_is_not_found() -> None:
    with pytest.raises(UserError, match="two is not running"):
        guest.find("two")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> guest.Guest:
    """A machine whose ssh is a shell on this host."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shell = tmp_path / "ssh"
    shell.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nexec sh -c "$2"\n')
    shell.chmod(0o755)
    monkeypatch.setattr(guest.Guest, "ssh_argv", lambda *_: [str(shell)])
    return guest.Guest("one", "virtio-net", os.getpid(), 1, "tcg", 0)


def test_ssh_gives_what_the_command_said(here: guest.Guest) -> None:
    done = here.ssh("cat; echo more >&2; exit 3", stdin="words")
    assert (done.returncode, done.stdout, done.stderr) == (3, "words", "more\n")
    with pytest.raises(UserError, match="one: `false` failed with status 1"):
        here.ssh("false", check=True)


def test_the_clock_offset_is_within_its_error(here: guest.Guest) -> None:
    clock = here.clock_offset()
    assert abs(clock.offset_ns) <= clock.error_ns, "both clocks are the same one here"
    assert clock.error_ns < 50_000_000


def test_a_clock_that_cannot_be_read(here: guest.Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest.Guest, "ssh_argv", lambda *_: ["true"])
    with pytest.raises(UserError, match="clock cannot be read"):
        here.clock_offset()


def test_each_nic_has_its_wire(here: guest.Guest) -> None:
    assert here.wire(0) == here.files.nic(0)
    with pytest.raises(UserError, match="one has no NIC 1; it has 1"):
        here.wire(1)


def test_a_nic_on_a_hub_has_no_wire() -> None:
    aoe = guest.Guest("x", "aoe", 1, 1, "tcg", 0.0)
    with pytest.raises(UserError, match="NIC 1 of x takes frames of its hub only"):
        aoe.wire(1)


def test_two_machines_are_plugged_into_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one, two = (guest.Guest(name, "virtio-net", 1, 1, "tcg", 0) for name in ("one", "two"))
    for each in (one, two):
        each.files.directory.mkdir(parents=True)
    for _ in range(2):
        guest.join(one, two)
    assert one.files.peer(0).readlink() == two.wire(0)
    assert two.files.peer(0).readlink() == one.wire(0)


def test_ssh_asks_nothing_and_remembers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(guest, "_key", lambda: Path("/key"))
    one = guest.Guest("one", "virtio-net", 1, 2200, "tcg", 0)
    words = one.ssh_argv()
    assert words[-1] == "127.0.0.1"
    for option in ("BatchMode=yes", "IdentitiesOnly=yes", "UserKnownHostsFile=/dev/null"):
        assert option in words
    assert "ControlMaster=auto" in words
    assert not any("Control" in word for word in one.ssh_argv(alone=True))


def test_every_machine_fits_into_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    longest = max(machines.load(), key=len) + ".abcdef"
    control = guest.run_directory(longest) / "ssh"
    # ssh makes the socket under a temporary name that is 17 characters longer.
    assert len(str(control).replace(str(tmp_path), "/home/somebody/.cache")) + 17 < qemu.UNIX_PATH_MAX


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """What speaks QMP at a socket, and knows one command; with what it was told."""
    path, told = tmp_path / "qmp", list[dict[str, Any]]()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rw") as lines:
                said: list[dict[str, Any]] = [{"QMP": {}}, {"event": "RESUME"}]
                for line in itertools.chain([""], lines):
                    if line:
                        told.append(json.loads(line))
                        known = told[-1]["execute"] in ("qmp_capabilities", "block_set_io_throttle")
                        result = {"return": {}} if known else {"error": {"desc": "it is not known"}}
                        said = [{"event": "STOP"}, {"id": told[-1]["id"], **result}]
                    lines.writelines(json.dumps(each) + "\n" for each in said)
                    lines.flush()

        thread = threading.Thread(target=answer)
        thread.start()
        yield path, told
        thread.join(10)


def test_qemu_is_told_when_it_listens(monitor: tuple[Path, list[dict[str, Any]]]) -> None:
    path, told = monitor
    guest._tell(path, "block_set_io_throttle", {"device": "swap", "bps": 0})
    assert [each["execute"] for each in told] == ["qmp_capabilities", "block_set_io_throttle"]
    assert told[1]["arguments"] == {"device": "swap", "bps": 0}


def test_what_qemu_refuses_is_one_sentence(monitor: tuple[Path, list[dict[str, Any]]]) -> None:
    with pytest.raises(UserError, match="QEMU does not dance: it is not known"):
        guest._tell(monitor[0], "dance", {})
