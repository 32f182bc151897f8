# SPDX-License-Identifier: GPL-2.0-only
import os
from pathlib import Path

import pytest

from toolkit.errors import UserError
from vm import guest
from vm.guest import ssh


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
    monkeypatch.setattr(ssh, "key", lambda: Path("/key"))
    one = guest.Guest("one", "virtio-net", 1, 2200, "tcg", 0)
    words = one.ssh_argv()
    assert words[-1] == "127.0.0.1"
    for option in ("BatchMode=yes", "IdentitiesOnly=yes", "UserKnownHostsFile=/dev/null"):
        assert option in words
    assert "ControlMaster=auto" in words
    assert not any("Control" in word for word in one.ssh_argv(alone=True))
