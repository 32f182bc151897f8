# SPDX-License-Identifier: GPL-2.0-only
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from toolkit.errors import UserError
from vm.machines import Nic
from vm.models import model
from vm.qemu.files import Files


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_model_starts_answers_and_stops(files: Files) -> None:
    pid = model.start(0, Nic("qlge", options={"device": "8012", "steer": "9000-9003=1"}), files)
    try:
        assert model.ask(files, 0, "stats")["received"] == 0
        assert "8012" in files.model(0).read_text()
        assert files.nic(0).is_socket()
    finally:
        model.stop(pid, files)
    assert not files.device(0).exists()
    with pytest.raises(UserError, match="no NIC answers"):
        model.ask(files, 0, "stats")


def test_model_that_does_not_start_says_why(files: Files) -> None:
    with pytest.raises(UserError, match=r"model of NIC 1 did not start: .*--device is one of"):
        model.start(1, Nic("qlge", options={"device": "8013"}), files)


def test_process_with_the_number_of_a_model_is_left_alone(files: Files) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        model.stop(other.pid, files)
        assert other.poll() is None
        other.kill()


def test_stubborn_model_is_killed(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "GRACE_SECONDS", 0.3)
    ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    body = f"{ignore}; print(flush=True); time.sleep(60)"
    words = [sys.executable, "-c", body, str(files.device(0))]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        model.stop(stubborn.pid, files)
        assert stubborn.wait(timeout=10) == -signal.SIGKILL


def test_model_ends_with_its_machine(files: Files) -> None:
    pid = model.start(0, Nic("qlge"), files)
    with socket.socket(socket.AF_UNIX) as machine:
        machine.connect(str(files.device(0)))
        time.sleep(0.2)
        os.kill(pid, 0)
    deadline = time.monotonic() + 10
    while files.device(0).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not files.device(0).exists()
    model.stop(pid, files)
