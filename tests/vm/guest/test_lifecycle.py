# SPDX-License-Identifier: GPL-2.0-only
import json
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.vm.guest.conftest import DYING, OBEDIENT, PANICKING, STUBBORN, Play, ends
from toolkit.errors import UserError
from vm import guest
from vm.guest import lifecycle
from vm.paths import run_directory
from vm.qemu.files import Files


@pytest.mark.usefixtures("booted")
@pytest.mark.parametrize("body", [OBEDIENT, STUBBORN], ids=["by its monitor", "by force"])
def test_machine_goes_up_is_listed_and_goes_down(
    body: str, play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(body)
    monkeypatch.setattr(lifecycle, "GRACE_SECONDS", 0.3)
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
    assert (tmp_path / "quit").exists() == (body == OBEDIENT)


@pytest.mark.parametrize(
    ("body", "words"),
    [(DYING, "no such device"), (PANICKING, "Kernel panic")],
    ids=["by an error", "by a panic"],
)
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


@pytest.mark.usefixtures("booted")
@pytest.mark.parametrize("body", [OBEDIENT, STUBBORN], ids=["by its monitor", "by force"])
def test_a_nic_of_ours_ends_with_its_machine(body: str, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    play(body)
    monkeypatch.setattr(lifecycle, "GRACE_SECONDS", 0.3)
    started = guest.up("one", "qlge", accel="tcg")
    (pid,) = started.models
    assert started.wire(0).is_socket()
    assert started.ask("stats")["received"] == 0
    assert guest.find("one") == started
    guest.down(started)
    assert ends(pid)


@pytest.mark.usefixtures("play")
def test_a_process_of_the_same_number_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        files = Files(run_directory("one"))
        files.directory.mkdir(parents=True)
        stale = guest.Guest("one", "virtio-net", other.pid, 1, "tcg", 0)
        files.state.write_text(json.dumps(asdict(stale)))
        assert not stale.alive()
        assert guest.running() == []
        guest.down(stale)
        assert other.poll() is None
        other.kill()


@pytest.mark.usefixtures("play")
def test_machine_that_does_not_run_is_not_found() -> None:
    with pytest.raises(UserError, match="two is not running"):
        guest.find("two")
