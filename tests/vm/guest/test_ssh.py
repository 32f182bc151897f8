# SPDX-License-Identifier: GPL-2.0-only
import socket
import threading
from pathlib import Path

import pytest

from vm.guest import ssh


def test_key_of_the_checkout_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    key = ssh.key()
    before = key.read_bytes()
    assert ssh.key() == key
    assert key.read_bytes() == before
    assert key.stat().st_mode & 0o077 == 0
    assert ssh.public_key().startswith("ssh-ed25519 ")


@pytest.mark.parametrize(("banner", "answer"), [(b"SSH-2.0-x\r\n", True), (b"HTTP", False), (b"", False)])
def test_only_a_banner_is_an_answer(banner: bytes, answer: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(banner)

        thread = threading.Thread(target=greet)
        thread.start()
        assert ssh.answers(listener.getsockname()[1]) is answer
        thread.join(10)


def test_nobody_answers_at_a_free_port() -> None:
    assert not ssh.answers(ssh.free_port())
