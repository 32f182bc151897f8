# SPDX-License-Identifier: GPL-2.0-only
"""With a shell here in the place of a machine's: what is packed and unpacked is real."""

import os
from pathlib import Path

import pytest

from toolkit.capture import compiled
from vm.guest import Guest, programs
from vm.guest import guest as guests
from vm.image import image


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the machine keeps its programs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(image, "key", lambda _: "image")
    monkeypatch.setattr(programs, "DIRECTORY", tmp_path / "var/cache/rx-stall")
    sudo = tmp_path / "bin/sudo"
    sudo.parent.mkdir()
    sudo.write_text('#!/bin/sh\nexec "$@"\n')
    sudo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sudo.parent}:{os.environ['PATH']}")
    # ssh's words end with "--" and the command.
    monkeypatch.setattr(guests.Guest, "ssh_argv", lambda *_: ["sh", "-c", 'eval "$1"'])
    return tmp_path / "var/cache/rx-stall"


MACHINE = Guest("m", "virtio-net", 1, 2, "tcg", 0.0)


def test_what_one_machine_compiled_the_next_one_has(there: Path) -> None:
    programs.bring(MACHINE)
    programs.take(MACHINE)
    assert not there.exists()
    there.mkdir(mode=0o700, parents=True)
    (there / "a.json").write_text("a")
    (there / "b.new").write_text("half")
    programs.take(MACHINE)
    for path in there.iterdir():
        path.unlink()
    there.rmdir()
    programs.bring(MACHINE)
    assert [(path.name, path.read_text()) for path in there.iterdir()] == [("a.json", "a")]
    assert there.stat().st_mode & 0o777 == 0o700


def test_the_oldest_are_forgotten(there: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiled, "KEPT", 2)
    there.mkdir(mode=0o700, parents=True)
    for age in range(3):
        (there / f"{age}.json").touch()
        os.utime(there / f"{age}.json", (1000 - age, 1000 - age))
    programs.take(MACHINE)
    kept = tmp_path / "cache/rx-stall/programs/image"
    assert sorted(path.name for path in kept.iterdir()) == ["0.json", "1.json"]


def test_a_machine_that_does_not_answer_is_left_alone(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guests.Guest, "ssh_argv", lambda *_: ["sleep", "60"])
    monkeypatch.setattr(programs, "_TIMEOUT", 0.1)
    programs.take(MACHINE)
    assert not there.exists()
