# SPDX-License-Identifier: GPL-2.0-only
"""The NIC as the driver meets it: probe, interface up and down, and a machine that goes away."""

import selectors
from pathlib import Path
from struct import pack, unpack_from

import pytest

from tests.vm.models.qlge_nic.conftest import Bench
from tests.vm.models.qlge_nic.driver import BAR1, BAR3, BASE, MAC
from tests.vm.models.qlge_nic.frames import datagram, to
from tests.vm.vfio_user.client import Client
from tests.vm.vfio_user.conftest import gained_descriptors
from vm.vfio_user import messages as m
from vm.vfio_user.device import CONFIG_REGION
from vm.vfio_user.messages import Command


@pytest.mark.parametrize("device", [0x8000, 0x8012])
def test_nic_has_the_identity_of_its_board(tmp_path: Path, loop: selectors.BaseSelector, device: int) -> None:
    made = Bench(tmp_path, loop, device_id=device, vectors=4)
    space = made.client.read(CONFIG_REGION, 0, 256)
    assert unpack_from("<HH", space) == (0x1077, device)
    assert unpack_from("<HII", space, space[0x34] + 2) == (3, 0x2001, 0x3001)
    sizes = [made.client.region_info(index)[0][4] for index in (BAR1, 2, BAR3, 4)]
    assert sizes == [0x4000, 0, 0x100000, 0]
    made.close()


def test_up_and_down_again_and_again(bench: Bench) -> None:
    for number in range(1, 6):
        bench.driver.up()
        frame = datagram(200)
        bench.arrive(frame)
        assert [data for data, _ in bench.driver.poll()] == [frame]
        assert bench.ring()["accepted"] == number
        bench.driver.write(0x0C, 1 << 31 | 1 << 15)
        bench.arrive(frame)
        assert bench.nic.unrouted == number and not bench.ring()["up"]


def test_reset_of_the_device(up: Bench) -> None:
    up.nic.steering.ports[5] = 1
    assert up.client.call(Command.DEVICE_RESET) == b""
    up.arrive(datagram(100))
    assert up.nic.filtered == 1 and up.driver.read(0x38) == 0
    assert up.nic.steering.ports == {5: 1}


def test_rings_out_of_reach_are_refused(bench: Bench) -> None:
    driver = bench.driver
    assert not driver.load_at(0x1000, 0x40, 0)
    assert not driver.load_at(0x1000, 1, 0)
    assert not driver.load_at(0x1000, 4, 0)
    block = pack("<BBBBHHQQHHQHHQHH", 0, 0, 0, 0x80, 0x110, 0, 0x5000, BASE, 0, 0, 0, 0, 0, 0, 0, 0)
    assert not driver.load(block, 0x40, 0)
    driver.up()
    assert driver.read(0x28) == 0


def test_delays_alone_leave_the_ring(up: Bench) -> None:
    """qlge_update_ring_coalescing"""
    up.arrive(datagram(100))
    block = pack("<BBBBHHQQHHQHHQHH", 0, 0, 0, 0x40, 0, 0, 0, 0, 9, 9, 0, 0, 0, 0, 0, 0)
    assert up.driver.load(block, 0x40, 0)
    assert len(up.driver.poll()) == 1


def test_memory_map_that_changes(up: Bench) -> None:
    """QEMU maps and unmaps other parts while the rings are up; when their own part goes, they go."""
    up.client.map(0, 0x1000, up.driver.descriptor)
    up.arrive(datagram(100))
    assert len(up.driver.poll()) == 1
    up.client.unmap(0, 0, m.UNMAP_ALL)
    up.arrive(datagram(100))
    up.driver.send([to(MAC, 60)])
    assert up.nic.unrouted == 1 and up.out == []


def test_machine_that_goes_and_another_that_comes(up: Bench) -> None:
    with gained_descriptors() as gained:
        up.client.close()
        up.arrive(datagram(100))
        assert up.nic.filtered == 1
        up.client = Client(up.server.path, up.server.loop)
        up.client.negotiate()
        assert gained() < 0
    old, up.driver = up.driver, type(up.driver)(up.client)
    old.close()
    up.driver.up()
    up.arrive(datagram(100))
    assert len(up.driver.poll()) == 1


def test_vector_that_is_not_offered(bench: Bench) -> None:
    block = pack("<BBBBHHQQHHQHHQHH", 8, 0, 0, 0x80, 0x110, 0, BASE, BASE, 0, 0, 0, 0, 0, 0, 0, 0)
    assert not bench.driver.load(block, 0x40, 0)
    assert bench.nic.stats()["rings"] == []
