# SPDX-License-Identifier: GPL-2.0-only
import selectors
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vm.models.qlge_nic.driver import MAC, Driver
from tests.vm.vfio_user.client import Client
from vm.models.qlge_nic.nic import Nic
from vm.vfio_user.server import Server


class Bench:
    """A NIC, its driver, and the frames that came out of it."""

    def __init__(self, directory: Path, loop: selectors.BaseSelector, **options: Any) -> None:
        self.out: list[bytes] = []
        self.nic = Nic(MAC, lambda frame: self.out.append(bytes(frame)), **options)
        self.server = Server(directory / "nic", self.nic.device, loop)
        self.client = Client(self.server.path, loop)
        self.client.negotiate()
        self.driver = Driver(self.client)

    def arrive(self, *frames: bytes) -> None:
        """Frames arrive together."""
        for frame in frames:
            self.nic.receive(memoryview(bytearray(frame)))
        self.nic.announce()

    def ring(self, number: int = 0) -> dict[str, int]:
        """What the NIC counted."""
        rings: list[dict[str, int]] = self.nic.stats()["rings"]
        return rings[number]

    def close(self) -> None:
        self.driver.close()
        self.client.close()
        self.server.close()
        self.nic.close()


@pytest.fixture
def loop() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as selector:
        yield selector


@pytest.fixture
def bench(tmp_path: Path, loop: selectors.BaseSelector) -> Iterator[Bench]:
    made = Bench(tmp_path, loop)
    yield made
    made.close()


@pytest.fixture
def up(bench: Bench) -> Bench:
    """With its rings up."""
    bench.driver.up()
    return bench
