# SPDX-License-Identifier: GPL-2.0-only
"""A driver is its directory: what is shared by all of them knows none, neither by name nor by meaning."""

import functools
import re
from pathlib import Path

import pytest

from toolkit import drivers
from toolkit.paths import PROBES

ROOT = Path(__file__).parent.parent
SHARED = sorted(
    path
    for path in [
        *(ROOT / "toolkit").rglob("*.py"),
        *(ROOT / "toolkit").rglob("*.html"),
        *PROBES.rglob("*.[ch]"),
    ]
    if not any(path.is_relative_to(PROBES / name) for name in drivers.names())
)
EXAMPLE = re.compile(r"^ *(Example: |\"?sudo |python )|help=|asm-generic|np\.generic")
"""A line of help may name a driver that a reader may have; some names have a driver's in them."""


def test_something_is_shared() -> None:
    assert len(SHARED) > 50


@pytest.mark.parametrize("name", drivers.names())
def test_no_driver_is_named_outside_its_directory(name: str) -> None:
    driver = drivers.load(name)
    names = {name, name.partition("_")[0], name.rpartition("_")[2], driver.module, driver.poll} - {"", "net"}
    word = re.compile(rf"(?<![a-z])({'|'.join(sorted(names))})(?![a-z])", re.IGNORECASE)
    assert _found(word) == []


@pytest.mark.parametrize("name", drivers.names())
def test_no_meaning_of_a_driver_stands_outside_its_directory(name: str) -> None:
    driver = drivers.load(name)
    own = {each.name for each in (*driver.events, *driver.flags)}
    own |= {cause.name for cause in driver.causes} | {table.name for table in driver.tables}
    if own:
        assert _found(re.compile(rf"[\"'.]({'|'.join(sorted(own))})[\"']")) == []


def _found(word: re.Pattern[str]) -> list[str]:
    """Return the lines of the shared files that have a word."""
    return [f"{place}: {line.strip()}" for place, line in _lines() if word.search(line)]


@functools.cache
def _lines() -> list[tuple[str, str]]:
    """Return each line of the shared files that is no example of a command, with its place."""
    return [
        (f"{path.relative_to(ROOT)}:{number}", line)
        for path in SHARED
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if not EXAMPLE.search(line)
    ]
