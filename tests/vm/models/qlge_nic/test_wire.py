# SPDX-License-Identifier: GPL-2.0-only
import selectors
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.models.qlge_nic.conftest import Bench
from tests.vm.models.qlge_nic.driver import MAC
from tests.vm.models.qlge_nic.frames import datagram, to
from tests.vm.vfio_user.client import turn
from vm.models.qlge_nic.wire import Wire
from vm.wire import sender


@pytest.fixture
def wire(tmp_path: Path, loop: selectors.BaseSelector, up: Bench) -> Iterator[Wire]:
    made = Wire(tmp_path / "wire", tmp_path / "peer", loop)
    made.serve(up.nic)
    yield made
    made.close()


def test_frames_come_in(wire: Wire, up: Bench) -> None:
    frames = [datagram(size) for size in (60, 1000, 9014)]
    with sender.connect(wire.local) as channel:
        for frame in frames:
            channel.send(frame)
        turn(wire.loop)
        assert [data for data, _ in up.driver.poll()] == frames
        assert up.driver.interrupts() == 1
        channel.send(b"")
        turn(wire.loop)
        assert up.nic.malformed == 1


def test_frames_go_out(wire: Wire, up: Bench) -> None:
    up.nic.send = wire.send
    up.driver.send([to(MAC, 60)])
    assert (wire.nobody, wire.full) == (1, 0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.bind(str(wire.peer))
        peer.setblocking(False)
        frame = to(MAC, 1514)
        up.driver.send([frame])
        assert peer.recv(65536) == frame
        for _ in range(200):
            up.driver.send([to(MAC, 60)])
            assert up.driver.sent()
        assert wire.full > 0
    up.driver.send([to(MAC, 60)])
    assert wire.nobody == 2


def test_wire_without_a_peer_loses_frames(tmp_path: Path, loop: selectors.BaseSelector) -> None:
    made = Wire(tmp_path / "lonely", None, loop)
    made.send(bytearray(60))
    assert made.nobody == 1
    made.close()
    assert not (tmp_path / "lonely").exists()


def test_two_nics_on_one_wire(tmp_path: Path, loop: selectors.BaseSelector, wire: Wire, up: Bench) -> None:
    (tmp_path / "other").mkdir()
    other = Bench(tmp_path / "other", loop)
    other.driver.up()
    cable = Wire(tmp_path / "peer", tmp_path / "wire", loop)
    cable.serve(other.nic)
    other.nic.send = cable.send
    up.nic.send = wire.send
    for here, there in ((up, other), (other, up)):
        frame = to(MAC, 1500)
        here.driver.send([frame])
        turn(loop)
        assert [data for data, _ in there.driver.poll()] == [frame]
    other.close()
    cable.close()
