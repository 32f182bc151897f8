# SPDX-License-Identifier: GPL-2.0-only
import socket
import threading
from pathlib import Path

import pytest

from toolkit.errors import UserError
from vm.models.client import ask


def _answer(path: Path, line: bytes) -> threading.Thread:
    """Answer the one question that is asked at a socket."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        with listener:
            connection, _ = listener.accept()
            with connection:
                question = connection.makefile("rb").readline()
                connection.sendall(line.replace(b"QUESTION", question.strip()))

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_words_are_one_line_and_the_answer_is_json(tmp_path: Path) -> None:
    thread = _answer(tmp_path / "control", b'{"asked": "QUESTION"}\n')
    assert ask(tmp_path / "control", "link", "down") == {"asked": "link down"}
    thread.join(10)


def test_error_of_the_nic_is_a_sentence(tmp_path: Path) -> None:
    thread = _answer(tmp_path / "control", b'{"error": "it does not dance."}')
    with pytest.raises(UserError, match=r"^it does not dance\.$"):
        ask(tmp_path / "control", "dance")
    thread.join(10)


def test_answer_that_is_cut_is_no_answer(tmp_path: Path) -> None:
    thread = _answer(tmp_path / "control", b'{"asked"')
    with pytest.raises(UserError, match="no NIC answers at"):
        ask(tmp_path / "control", "stats")
    thread.join(10)
