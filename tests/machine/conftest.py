# SPDX-License-Identifier: GPL-2.0-only
"""Machines for the tests: a kind is booted once, and its tests run one after the other, whatever their file.

A test says which kinds it needs: ``@pytest.mark.machine("qlge")``, or ``pytestmark`` for a file. Tests of one
kind are a group of pytest-xdist: groups run side by side as far as there are cores.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machine.harness.lab import Lab
from vm import guest

Boot = Callable[[str], guest.Guest]

_REPEATS = pytest.StashKey[list[str]]()


def _kinds(item: pytest.Item) -> tuple[str, ...]:
    marker = item.get_closest_marker("machine")
    return tuple(marker.args) if marker else ()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Group a test by its machine: before pytest-xdist, which reads the groups when all are collected."""
    if Path(__file__).parent in item.path.parents:
        kinds = _kinds(item)
        assert kinds, f"{item.nodeid} does not say which machine it needs"
        item.add_marker(pytest.mark.xdist_group(kinds[0]))


@pytest.fixture(scope="session")
def _lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    repeats = request.config.stash.setdefault(_REPEATS, [])
    found = Lab(repeats)
    yield found
    found.keep([])


@pytest.fixture
def lab(
    _lab: Lab, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Iterator[Lab]:
    """The machines that run; those that this test does not need are stopped first."""
    _lab.keep(_kinds(request.node))
    repeats = request.config.stash[_REPEATS]
    before = len(repeats)
    yield _lab
    for line in repeats[before:]:
        record_property("repeat", line)


@pytest.fixture
def machine(lab: Lab, request: pytest.FixtureRequest) -> guest.Guest:
    """The machine that the test names."""
    return lab.boot(_kinds(request.node)[0])
