# SPDX-License-Identifier: GPL-2.0-only
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vm.models.qlge_nic import __main__ as main

COMMAND = [sys.executable, "-m", "vm.qlge_nic"]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The tests' own process keeps its signal handlers."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_ports_go_to_rings() -> None:
    assert main._ports(["9001=1", "9003-9005=2"]) == {9001: 1, 9003: 2, 9004: 2, 9005: 2}


def test_nic_process_answers_and_ends(tmp_path: Path) -> None:
    names = {"path": "nic.sock", "wire": "nic0", "control": "control", "log": "log"}
    paths = {key: tmp_path / name for key, name in names.items()}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stale:
        stale.bind(str(paths["wire"]))
    words = [*COMMAND, "serve", str(paths["path"]), "--steer", "9001=1", "--no-link"]
    for key in ("wire", "control", "log"):
        words += [f"--{key}", str(paths[key])]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as nic:
        assert nic.stderr
        guard = threading.Timer(20, nic.kill)
        guard.start()
        assert "ready" in nic.stderr.readline()
        told = subprocess.run(
            [*COMMAND, "stats", str(paths["control"])], capture_output=True, text=True, check=True
        )
        assert json.loads(told.stdout)["link"] == "down"
        os.kill(nic.pid, signal.SIGTERM)
        assert nic.wait() == 0
        guard.cancel()
    assert not any(paths[key].exists() for key in ("path", "wire", "control"))
    assert "ready" in paths["log"].read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--device", "8013"], "--device is one of 8000, 8012"),
        (["--mac", "nonsense"], "is no Ethernet address"),
        (["--steer", "9001"], "is not PORT=RING"),
        (["--steer", "9001-=1"], "nor FIRST-LAST=RING"),
        (["--peer", "peer"], "--peer goes with --wire"),
        (["--wire", "w" * 120], "too long for a socket's path"),
        (["--wire", "/nonexistent/wire"], "a socket cannot be made"),
    ],
)
def test_mistakes_of_the_nics_options_are_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["qlge_nic", "serve", str(tmp_path / "nic"), *options])
    with pytest.raises(SystemExit) as stopped:
        sys.exit(main.main())
    assert stopped.value.code == 1 and said in capsys.readouterr().err
    assert not (tmp_path / "nic").exists()


def test_paths_in_use_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as live:
        live.bind(str(tmp_path / "live"))
        for name, said in (("file", "no socket"), ("live", "in use")):
            monkeypatch.setattr(sys, "argv", ["qlge_nic", "serve", str(tmp_path / name)])
            with pytest.raises(SystemExit):
                sys.exit(main.main())
            assert said in capsys.readouterr().err
