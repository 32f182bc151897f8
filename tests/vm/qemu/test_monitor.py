# SPDX-License-Identifier: GPL-2.0-only
import itertools
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import UserError
from vm.qemu import monitor


@pytest.fixture
def qmp(tmp_path: Path) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """What speaks QMP at a socket, and knows one command; with what it was told."""
    path, told = tmp_path / "qmp", list[dict[str, Any]]()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rw") as lines:
                said: list[dict[str, Any]] = [{"QMP": {}}, {"event": "RESUME"}]
                for line in itertools.chain([""], lines):
                    if line:
                        told.append(json.loads(line))
                        known = told[-1]["execute"] in ("qmp_capabilities", "block_set_io_throttle")
                        result = {"return": {}} if known else {"error": {"desc": "it is not known"}}
                        said = [{"event": "STOP"}, {"id": told[-1]["id"], **result}]
                    lines.writelines(json.dumps(each) + "\n" for each in said)
                    lines.flush()

        thread = threading.Thread(target=answer)
        thread.start()
        yield path, told
        thread.join(10)


def test_qemu_is_told_when_it_listens(qmp: tuple[Path, list[dict[str, Any]]]) -> None:
    path, told = qmp
    monitor.tell(path, "block_set_io_throttle", {"device": "swap", "bps": 0})
    assert [each["execute"] for each in told] == ["qmp_capabilities", "block_set_io_throttle"]
    assert told[1]["arguments"] == {"device": "swap", "bps": 0}


def test_what_qemu_refuses_is_one_sentence(qmp: tuple[Path, list[dict[str, Any]]]) -> None:
    with pytest.raises(UserError, match="QEMU does not dance: it is not known"):
        monitor.tell(qmp[0], "dance", {})
