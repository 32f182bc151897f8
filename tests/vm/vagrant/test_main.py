# SPDX-License-Identifier: GPL-2.0-only
import json
import sys
from pathlib import Path

import pytest

from vm import machines
from vm.qemu.files import Files
from vm.vagrant import __main__ as command
from vm.vagrant import processes


def _run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["python -m vm.vagrant", *words])
    return command.main()


def test_every_machine_is_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "describe", "--home", str(tmp_path), "--key", "ssh-rsa AA") == 0
    assert json.loads(capsys.readouterr().out).keys() == machines.load().keys()


def test_directory_of_a_machine_comes_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(tmp_path / "of-user" / "checkout" / "virtio-net")
    monkeypatch.setattr(processes, "files", lambda _: files)
    monkeypatch.setenv("RXSTALL_ACCEL", "kvm")
    assert _run(monkeypatch, "up", "virtio-net") == 0
    assert files.directory.is_dir()
    assert _run(monkeypatch, "down", "virtio-net") == 0
    assert not files.directory.exists()


def test_unknown_machine_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "up", "nonesuch") == 1
    assert capsys.readouterr().err.startswith("vm.vagrant: error: No machine is called nonesuch")
