# SPDX-License-Identifier: GPL-2.0-only
"""Machines for the tests: each kind is booted once and shared by the tests that ask for it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from vm import guest

Boot = Callable[[str], guest.Guest]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.machine)


@pytest.fixture(scope="module")
def boot() -> Iterator[Boot]:
    """Starts a kind of machine, or finds the one that this module started before, if it still lives."""
    with ExitStack() as stack:
        running: dict[str, guest.Guest] = {}

        def start(kind: str) -> guest.Guest:
            if kind not in running or not running[kind].alive():
                running[kind] = stack.enter_context(guest.machine(kind))
            return running[kind]

        yield start


@pytest.fixture
def machine(boot: Boot) -> guest.Guest:
    """The plain machine with one NIC."""
    return boot("virtio-net")
