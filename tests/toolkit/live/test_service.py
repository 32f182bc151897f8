# SPDX-License-Identifier: GPL-2.0-only
import socket
from pathlib import Path

import pytest

from toolkit.live.service import is_ready, is_starting_again, notify


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify("READY=1")
        assert systemd.recv(100) == b"READY=1"
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        is_ready()
        assert systemd.recv(100) == b"READY=1"
        # While it starts again nothing tells that it is alive; then it is watched as before.
        monkeypatch.setenv("WATCHDOG_USEC", "60000000")
        is_starting_again()
        assert systemd.recv(100) == b"WATCHDOG_USEC=600000000"
        is_ready()
        assert systemd.recv(100) == b"READY=1\nWATCHDOG_USEC=60000000"
    notify("WATCHDOG=1")


def test_without_systemd_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
