# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path
from typing import Any

import toolkit
from tests.conftest import BEGAN, S, Trace, window, worker_stall
from toolkit.stalls.analysis import analyze, summary
from toolkit.stalls.selection import Selection, select

MIB = 1 << 20


def look(at: float, free: int, some: float = 0, **members: Any) -> dict[str, int]:
    """Return a look at memory, `at` seconds after the trace began; `free` in MiB."""
    usual = {"free": free * MIB, "min": 2 * MIB, "low": 3 * MIB, "some_ns": int(some * S), "full_ns": 7}
    return {"at_ns": BEGAN + int(at * S), **usual, **members}


def short(make_trace: Trace) -> Path:
    """Return a trace with a stall from 4 to 6 s, in which memory is short."""
    looks = [look(1, 50), look(3.5, 4, 1), look(5, 1, 2), look(8, 40, 3.5, min=9 * MIB), look(9, 2, 3.5)]
    return make_trace([window(1), *worker_stall(4, 6), window(9)], memory=looks)


def test_how_short_memory_was_in_stalls_and_at_all(make_trace: Trace) -> None:
    trace = toolkit.read(short(make_trace))
    assert trace.summary["memory"] == {
        "looks": 5,
        "free_min": MIB,
        "free_min_in_stalls": MIB,
        "min": 9 * MIB,
        "low": 3 * MIB,
        "some_ns": 3.5 * S,
        "full_ns": 0,
    }
    assert trace.memory["free"].tolist() == [free * MIB for free in (50, 4, 1, 40, 2)]


def test_a_part_of_a_trace_has_its_own_looks(make_trace: Trace) -> None:
    part = select(analyze(short(make_trace)), Selection(since=6.5))
    found = summary(part)["memory"]
    assert (found["looks"], found["free_min"], found["free_min_in_stalls"]) == (2, 2 * MIB, None)


def test_what_is_not_known_is_null(make_trace: Trace) -> None:
    assert summary(analyze(make_trace([window(1)])))["memory"] is None
    only_when = [{"at_ns": BEGAN + S}]
    found = summary(analyze(make_trace([window(1)], memory=only_when)))["memory"]
    assert found == {
        "looks": 1,
        **dict.fromkeys(("free_min", "free_min_in_stalls", "min", "low", "some_ns", "full_ns")),
    }
