# SPDX-License-Identifier: GPL-2.0-only
import gc
import mmap
import os
import selectors
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.vm.vfio_user.client import Client
from vm.vfio_user.device import Device, Region
from vm.vfio_user.irqs import Irqs
from vm.vfio_user.server import Server

SIZE = 1 << 16
AREA = (1 << 15, 1 << 15)


class Scratch:
    """A device that remembers what was written: region 0 by messages, region 1 also by a mapped half."""

    def __init__(self) -> None:
        self.plain = bytearray(SIZE)
        self.descriptor = os.memfd_create("scratch")
        os.truncate(self.descriptor, SIZE)
        self.shared = mmap.mmap(self.descriptor, SIZE)
        self.resets = 0
        regions = {
            0: Region(SIZE, lambda at, count: bytes(self.plain[at : at + count]), self.write),
            1: Region(
                SIZE,
                lambda at, count: self.shared[at : at + count],
                self.write_shared,
                self.descriptor,
                (AREA,),
            ),
        }
        self.device = Device(regions, Irqs(4), self.reset)

    def write(self, at: int, data: bytes) -> None:
        self.plain[at : at + len(data)] = data

    def write_shared(self, at: int, data: bytes) -> None:
        self.shared[at : at + len(data)] = data

    def reset(self) -> None:
        self.resets += 1

    def close(self) -> None:
        self.shared.close()
        os.close(self.descriptor)


@pytest.fixture
def loop() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as selector:
        yield selector


@pytest.fixture
def scratch() -> Iterator[Scratch]:
    made = Scratch()
    yield made
    made.close()


@pytest.fixture
def server(tmp_path: Path, scratch: Scratch, loop: selectors.BaseSelector) -> Iterator[Server]:
    made = Server(tmp_path / "device", scratch.device, loop)
    yield made
    made.close()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """Connected, and past the version."""
    made = Client(server.path, server.loop)
    made.negotiate()
    yield made
    made.close()


@contextmanager
def gained_descriptors() -> Iterator[Callable[[], int]]:
    """Give a function that counts the descriptors that this process has gained since the block began.

    The garbage collector waits until the block ends: it would close descriptors that earlier tests have left.
    """
    gc.disable()
    try:
        before = _descriptors()
        yield lambda: _descriptors() - before
    finally:
        gc.enable()


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208
