# SPDX-License-Identifier: GPL-2.0-only
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from vm.qemu import tap
from vm.wire import frames, sender

NAME = f"rx-stall-test-{os.getpid()}"

pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0 or not Path("/dev/net/tun").exists(), reason="makes a tap device, as root"
    ),
    pytest.mark.skipif(
        not (shutil.which("ip") and shutil.which("umount")), reason="needs ip and umount: `make setup`"
    ),
]


@pytest.fixture
def queues() -> Iterator[list[int]]:
    tap.create_namespace(NAME)
    try:
        descriptors = tap.open_queues(tap.wire(NAME, 0), 2)
        yield descriptors
        for descriptor in descriptors:
            os.close(descriptor)
    finally:
        tap.delete_namespace(NAME)
    assert not (tap.NAMESPACES / NAME).exists()


def drain(descriptor: int) -> int:
    count = 0
    while True:
        try:
            os.read(descriptor, 65536)
        except BlockingIOError:
            return count
        count += 1


def test_a_full_queue_refuses_and_every_accepted_frame_is_there(queues: list[int]) -> None:
    taken = refused = 0
    with sender.connect(tap.wire(NAME, 0)) as wire:
        for frame in frames.to_ports(200, range(9000, 9100), dst_mac="52:54:00:00:01:01"):
            try:
                wire.send(frame)
            except OSError as error:
                assert error.errno == errno.ENOBUFS
                refused += 1
            else:
                taken += 1
    assert [drain(descriptor) for descriptor in queues] == [tap.QUEUE_LENGTH] * 2
    assert (taken, refused) == (2 * tap.QUEUE_LENGTH, 100 - 2 * tap.QUEUE_LENGTH)


def test_host_sees_nothing_of_a_tap(queues: list[int]) -> None:
    assert queues
    assert not Path("/sys/class/net/tap0").exists()
