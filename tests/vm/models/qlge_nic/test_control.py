# SPDX-License-Identifier: GPL-2.0-only
import selectors
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.vm.models.qlge_nic.conftest import Bench
from tests.vm.models.qlge_nic.frames import datagram
from tests.vm.vfio_user.client import turn
from tests.vm.vfio_user.conftest import gained_descriptors
from toolkit.errors import UserError
from vm.models.client import ask
from vm.models.qlge_nic.control import Control


@pytest.fixture
def control(tmp_path: Path, loop: selectors.BaseSelector, up: Bench) -> Iterator[Control]:
    made = Control(tmp_path / "control", up.nic, None, loop)
    yield made
    made.close()


def asked(control: Control, *words: str) -> Any:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, control.path, *words)
        while not answer.done():
            for key, _ in control.loop.select(0.01):
                key.data()
        return answer.result()


def test_stats_are_answered_as_json(control: Control, up: Bench) -> None:
    up.arrive(datagram(100))
    found = asked(control, "stats")
    assert found["device"] == "1077:8000" and found["link"] == "up" and found["monotonic_ns"] > 0
    assert [ring["accepted"] for ring in found["rings"]] == [1, 0]
    assert found["rings"][0]["posted_lbq"] == 496


def test_long_answer_is_whole(control: Control, up: Bench) -> None:
    lbq = up.nic.counts[0].lbq
    for _ in range(1200):
        lbq.drop()
        lbq.end()
    (ring, _) = asked(control, "stats")["rings"]
    assert len(ring["gaps_lbq"]) == 1000 and ring["gaps_forgotten"] == 200
    assert ring["dropped_lbq_empty"] == 1200


def test_link_and_steering(control: Control, up: Bench) -> None:
    assert asked(control, "link", "down") == {"link": "down"} and not up.nic.link
    assert asked(control, "link", "up") == {"link": "up"} and up.nic.link
    assert asked(control, "steer", "9001", "1") == {"steer": {"9001": 1}}
    assert up.nic.steering.ports == {9001: 1}


@pytest.mark.parametrize("words", [("nonsense",), ("link", "sideways"), ("steer", "x", "1"), ("stats", "x")])
def test_unknown_command_is_answered_with_an_error(control: Control, words: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="is none of"):
        asked(control, *words)


def test_missing_socket_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no NIC answers"):
        ask(tmp_path / "nothing", "stats")


@pytest.mark.parametrize(
    "line",
    [b"", b"stats", b"x" * 5000, b"\xff\xfe\n", b"\n"],
    ids=["no line", "half a line", "a long line", "no text", "an empty line"],
)
def test_clients_that_misbehave(control: Control, line: bytes) -> None:
    with gained_descriptors() as gained:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(control.path))
            client.sendall(line)
            turn(control.loop)
        turn(control.loop)
        assert gained() == 0
    assert asked(control, "link", "up")
