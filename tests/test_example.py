# SPDX-License-Identifier: GPL-2.0-only
"""The example of a driver: a directory beside those of probes/, and no other file, is a driver."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import META, S, Trace, event, failed, refilled
from tests.toolkit.test_drivers import test_each_driver_is_whole as is_whole
from toolkit import drivers
from toolkit.paths import PROBES
from toolkit.report import text
from toolkit.stalls.analysis import analyze

EXAMPLE = Path(__file__).parent / "example" / "e1000e"


@pytest.fixture
def probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The probes, with the example among them."""
    found = tmp_path / "probes"
    shutil.copytree(PROBES, found)
    shutil.copytree(EXAMPLE, found / "e1000e")
    monkeypatch.setattr(drivers, "PROBES", found)
    drivers.load.cache_clear()
    yield found
    drivers.load.cache_clear()


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
