# SPDX-License-Identifier: GPL-2.0-only
"""The example of a driver: a directory beside those of probes/, and no other file, is a driver."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import META, S, Trace, event, failed, refilled
from tests.toolkit.test_drivers import test_each_driver_is_whole as is_whole
from toolkit import drivers
from toolkit.paths import PROBES
from toolkit.report import text
from toolkit.stalls.analysis import analyze

EXAMPLE = Path(__file__).parent / "example" / "e1000e"


@contextmanager
def known(folder: Path) -> Iterator[None]:
    """Have the toolkit know the example, by a copy of all probes in a folder, with the example among them."""
    shutil.copytree(PROBES, folder / "probes")
    # It takes the place of the driver that is only declared.
    shutil.copytree(EXAMPLE, folder / "probes" / "e1000e", dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drivers, "PROBES", folder / "probes")
        drivers.load.cache_clear()
        yield
    drivers.load.cache_clear()


@pytest.fixture
def probes(tmp_path: Path) -> Iterator[None]:
    with known(tmp_path):
        yield


@pytest.mark.usefixtures("probes")
def test_a_directory_is_a_driver() -> None:
    assert "e1000e" in drivers.names()
    is_whole("e1000e")


@pytest.mark.usefixtures("probes")
def test_its_events_are_stalls_in_its_words(make_trace: Trace) -> None:
    meta = META | {"drivers": [META["drivers"][0] | {"name": "e1000e", "hooks": []}]}
    trace = make_trace([failed(2), refilled(5), event("late", 8, dur=S)], meta=meta)
    found = analyze(trace)
    (stall,) = found.stalls.to_dict("records")
    assert (stall["driver"], stall["state"], stall["duration_ns"]) == ("e1000e", "starved", 3 * S)
    assert text.verdict(found).startswith("eth1 went deaf once in 10.0 s on queue 0, for 3.000 s (starved):")
    assert found.silences["duration_ns"].tolist() == [S]
