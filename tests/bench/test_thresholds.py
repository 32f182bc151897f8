# SPDX-License-Identifier: GPL-2.0-only
import json
from pathlib import Path

import pytest

from bench import thresholds
from tests.conftest import BEGAN, MS, S, Trace, failed, window, worker_stall
from toolkit.runs import find_traces

DOCS = Path(__file__).parents[2] / "docs" / "stalls.md"


def _short(folder: Path, *spans: tuple[int, int]) -> None:
    """Write phases: memory is short in these seconds of the trace."""
    phases = [
        {"name": "hold", "start_ns": BEGAN + start * S, "end_ns": BEGAN + end * S, "shortage": True}
        for start, end in spans
    ]
    (folder / "phases.json").write_text(json.dumps({"scenario": "knob", "phases": phases}))


def _lengths(found: dict[tuple[str, str], thresholds.Part]) -> dict[str, tuple[float, list[int], list[int]]]:
    """Return, by part, its length [s], and those of its silences and stalls [ms]."""
    return {
        name: (
            part.seconds,
            [] if part.silences is None else [int(length) // MS for length in part.silences],
            [int(length) // MS for length in part.stalls],
        )
        for (_, name), part in found.items()
    }


def test_time_is_healthy_until_memory_gets_short(make_trace: Trace, tmp_path: Path) -> None:
    silent = [window(at, dur=30 * MS, polls=1) for at in (1, 4, 8)]
    path = make_trace([silent[0], *worker_stall(2, 2.015), silent[1], *worker_stall(5, 5.5), silent[2]])
    _short(tmp_path, (3, 6))
    assert _lengths(thresholds.measure(tmp_path, [path])) == {
        "healthy": (3, [30], [15]),
        "short": (3, [30], [500]),
    }


def test_time_is_healthy_until_the_longest_stall_begins(make_trace: Trace, tmp_path: Path) -> None:
    path = make_trace([*worker_stall(2, 2.015), failed(4), window(8, dur=30 * MS, polls=1)])
    found = _lengths(thresholds.measure(tmp_path, [path]))
    # The stall that begins then has no end, and counts nowhere.
    assert found == {"healthy": (4, [], [15])}


@pytest.mark.long
def test_the_tables_in_the_docs_are_those_of_the_recordings() -> None:
    found = thresholds.measure(thresholds.RECORDINGS, find_traces(thresholds.RECORDINGS))
    for table in (thresholds.silence_table(found), thresholds.stall_table(found)):
        assert "\n".join(["", *table, ""]) in DOCS.read_text()
