# SPDX-License-Identifier: GPL-2.0-only
import json
from pathlib import Path

import pytest

from tests.vm.guest.conftest import DYING, OBEDIENT, STUBBORN, Play, ends
from toolkit.errors import UserError
from vm import guest, machines
from vm.guest import boot, lifecycle
from vm.paths import run_directory
from vm.qemu.files import UNIX_PATH_MAX


def test_a_machine_that_never_answers_is_ended(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    play(STUBBORN)
    monkeypatch.setattr(boot, "BOOT_SECONDS", 0.3)
    monkeypatch.setattr(lifecycle, "GRACE_SECONDS", 0.3)
    with pytest.raises(UserError, match=r"did not answer within 0\.3 s"):
        guest.up("one", "virtio-net", accel="tcg")
    state = json.loads((run_directory("one") / "state.json").read_text())
    assert ends(state["pid"])


def test_a_nic_of_ours_ends_with_a_machine_that_does_not_start(play: Play) -> None:
    play(DYING)
    with pytest.raises(UserError, match="no such device"):
        guest.up("one", "qlge", accel="tcg")
    (dead,) = guest.known()
    assert all(ends(pid) for pid in dead.models)
    assert "ready" in dead.files.model(0).read_text()


@pytest.mark.usefixtures("play")
@pytest.mark.parametrize("name", ["../x", "", "a b", "x" * 50, "-rf"])
def test_a_name_stays_a_directory(name: str) -> None:
    with pytest.raises(UserError, match="is no name for a machine"):
        guest.up(name, "virtio-net", accel="tcg")


def test_an_unknown_accelerator_is_one_sentence(play: Play) -> None:
    play(OBEDIENT)
    with pytest.raises(UserError, match="xen is no accelerator"):
        guest.up("one", "virtio-net", accel="xen")


def test_every_machine_fits_into_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    longest = max(machines.load(), key=len) + ".abcdef"
    control = run_directory(longest) / "ssh"
    # ssh makes the socket under a temporary name that is 17 characters longer.
    assert len(str(control).replace(str(tmp_path), "/home/somebody/.cache")) + 17 < UNIX_PATH_MAX
