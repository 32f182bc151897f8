# SPDX-License-Identifier: GPL-2.0-only
import json
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vm.wire import __main__ as command


@pytest.fixture
def nic(tmp_path: Path) -> Iterator[socket.socket]:
    """A NIC's socket that keeps what it is sent."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind(str(tmp_path / "nic"))
        found.setblocking(False)
        yield found


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """The command handles signals; the tests do as before afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["vm.wire", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        sys.exit(command.main())
    return int(stopped.value.code or 0)


@pytest.mark.parametrize(
    ("text", "ports"),
    [("9000", [9000]), ("9000-9002", [9000, 9001, 9002]), ("9001,9004", [9001, 9004]), ("7,1-2", [7, 1, 2])],
)
def test_ports_are_numbers_and_ranges(text: str, ports: list[int]) -> None:
    assert command._ports(text) == ports


def test_frames_go_to_the_ports_in_turn_and_the_account_is_printed(
    nic: socket.socket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = ["--dst", "52:54:00:00:01:00", "--dst-ip", "192.0.2.9"]
    options = ["--count", 5, "--size", 100, "--ports", "9000-9001", *address]
    assert _run(monkeypatch, "--socket", nic.getsockname(), *options) == 0
    frames = [nic.recv(2000) for _ in range(5)]
    assert {(len(frame), frame[:6].hex(), frame[30:34]) for frame in frames} == {
        (100, "525400000100", bytes([192, 0, 2, 9]))
    }
    assert [struct.unpack("!H", frame[36:38])[0] for frame in frames] == [9000, 9001, 9000, 9001, 9000]
    account = json.loads(capsys.readouterr().out)
    assert (account["sent"], account["refused"]) == (5, 0)


def test_refused_frames_and_account_go_to_files(
    nic: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody reads: the socket holds some frames, and refuses the others."""
    files = ["-o", tmp_path / "account.json", "--refused", tmp_path / "refused.npy"]
    assert _run(monkeypatch, "--socket", nic.getsockname(), "--count", 400, "--rate", 20_000, *files) == 0
    assert capsys.readouterr().out == "sending\n"
    account = json.loads((tmp_path / "account.json").read_text())
    times = np.load(tmp_path / "refused.npy")
    assert account["refused"] == len(times) > 0
    assert account["sent"] + account["refused"] <= 400
    assert (np.diff(times) >= 0).all()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name either a machine or a --socket."),
        (["one", "--socket", "nic"], "name either a machine or a --socket."),
        (["--socket", "nic", "--size", "41"], "a frame has 42 to 65549 bytes, not 41."),
        (["--socket", "nic", "--ports", "x"], "invalid literal"),
        (["--socket", "nic", "--dst", "52:54"], "52:54 is no Ethernet address."),
        (["--socket", "/no/such/socket"], "no NIC takes frames"),
    ],
)
def test_mistake_is_one_sentence(
    words: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, *words) == 1
    error = capsys.readouterr().err
    assert error.startswith("vm.wire: error: ") and sentence in error and error.count("\n") == 1
