# SPDX-License-Identifier: GPL-2.0-only
"""Small tables of events, made by hand: they imitate no machine and are no recordings."""

import functools
import gc
import io
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

from toolkit import cli, drivers, traces
from toolkit.event import ALL_QUEUES, FLAG, KIND, NO_ORDER, NOT_KNOWN
from toolkit.runs import COLUMNS
from toolkit.stalls.analysis import Analysis, analyze
from toolkit.stalls.thresholds import Thresholds
from toolkit.trace.schema import EVENT, FORMAT, Events
from toolkit.trace.writer import TraceWriter

# A host that runs machines besides may be slow at any moment.
settings.register_profile("any host", deadline=None)
settings.load_profile("any host")

# A shell that runs the tests in the background has them ignore SIGINT, which some of them send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

DATA = Path(__file__).parent / "data"
"""Recordings of real machines."""

S = 1_000_000_000
MS = 1_000_000
BEGAN = 1000 * S

META: dict[str, Any] = {
    "format": FORMAT,
    "toolkit": "0.1.0",
    "kernel": "6.1.0-test",
    "arch": "x86_64",
    "cpus": 2,
    "clock": {"monotonic_ns": BEGAN, "realtime_ns": 0, "boottime_ns": 0},
    "options": {"detail": "normal", "devices": [], "queues": []},
    "gfp_flags": {"__GFP_HIGH": 0x20, "__GFP_ATOMIC": 0x200, "__GFP_KSWAPD_RECLAIM": 0x800},
    "drivers": [
        {
            "name": "virtio_net",
            "module": "virtio_net",
            "srcversion": "0",
            "version": None,
            "variant": "stock",
            "regime": "delayed work, NAPI off",
            "hooks": [
                {"program": "a", "at": ["kprobe:a"], "attached": "kprobe:a", "missing": ""},
                {"program": "b", "at": ["kprobe:b"], "attached": None, "missing": "receive interrupts"},
            ],
            "parameters": {},
        }
    ],
    "devices": [
        {
            "ifindex": 3,
            "name": "eth1",
            "driver": "virtio_net",
            "bus": "virtio1",
            "queues": [{"queue": queue, "name": f"rx-{queue}", "size": 256} for queue in range(2)],
        }
    ],
}

Trace: TypeAlias = Callable[..., Path]
Run: TypeAlias = Callable[..., tuple[int, str, str]]


_KINDS = KIND | {own.name: own.number for name in drivers.names() for own in drivers.load(name).events}
_FLAGS = FLAG | {own.name: own.number for name in drivers.names() for own in drivers.load(name).flags}


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        """Return what is seen, without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.getvalue())


def event(kind: str, at: float, **members: Any) -> Events:
    """:return: one event, `at` seconds after the trace began; flags joined by |."""
    row = np.zeros(1, EVENT)
    row["ifindex"], row["kind"], row["ts"] = 3, _KINDS[kind], BEGAN + round(at * S)
    row["posted_before"] = row["posted_after"] = NOT_KNOWN
    row["order"] = NO_ORDER if kind == "refill" else 0
    row["flags"] = sum(_FLAGS[name] for name in members.pop("flags", "").split("|") if name)
    for name, value in members.items():
        row[name] = value
    return row


def failed(at: float, **members: Any) -> Events:
    """:return: a refill in softirq that failed and left nothing posted."""
    return event("refill", at, **{"gfp": 0xA20, "refills": 1, "failed": 1, "posted_after": 0} | members)


def refilled(at: float, **members: Any) -> Events:
    """:return: a refill by the worker that posted all."""
    good = {
        "flags": "process|complete|in_worker",
        "gfp": 0xCC0,
        "refills": 1,
        "posted_before": 0,
        "posted_after": 256,
    }
    return event("refill", at, **good | members)


def window(at: float, **members: Any) -> Events:
    """:return: a window that ended at `at`, with packets."""
    some = {"dur": 8 * MS, "polls": 5, "packets": 40, "posted_before": 200, "posted_after": 250}
    return event("window", at, **some | members)


def worker_stall(at: float, end: float, queue: int = 0) -> list[Events]:
    """:return: a failed refill at `at`; 1 ms later the worker turns NAPI off, until `end`."""
    return [
        event("alloc_fail", at, gfp=0xA20, queue=queue),
        failed(at, dur=1000, queue=queue),
        event("worker_in", at + 0.0005, queue=ALL_QUEUES, flags="process|in_worker"),
        event("napi_off", at + 0.001, queue=queue, flags="process|in_worker"),
        refilled(end, dur=round((end - at) / 2 * S), reclaim=round((end - at) / 4 * S), queue=queue),
        event("napi_on", end, queue=queue, flags="process|in_worker"),
    ]


def note(now: float, dropped: int = 0, *written: Events, **more: Any) -> dict[str, Any]:
    """Make the note of a batch that was drained `now` seconds after the trace began.

    :param dropped: windows that CPU 1 could not deliver.
    :param written: all events since the trace began, those of this batch too; all are of CPU 0.
    """
    kinds = np.concatenate([np.empty(0, EVENT), *written])["kind"]
    counts = {name: int((kinds == number).sum()) for name, number in KIND.items()}
    ledger = {
        name: {"attempted": [count, 0], "delivered": [count, 0], "dropped": [0, 0]}
        for name, count in counts.items()
        if count
    }
    count = counts["window"]
    ledger["window"] = {"attempted": [count, dropped], "delivered": [count, 0], "dropped": [0, dropped]}
    return {"now_ns": BEGAN + round(now * S), "ledger": ledger, **more}


def runs_of(stalled: Sequence[float], variant: str | None = "stock", **columns: Any) -> pd.DataFrame:
    """:return: a run with one stall of so many seconds for each number, none for 0; and other columns."""
    some = {
        "trace": [f"{variant}/{number}/trace.rxt" for number in range(len(stalled))],
        "driver": "virtio_net",
        "kernel": "6.1.0-test",
        "variant": variant,
        "scenario": "pressure",
        "duration_ns": 60 * S,
        "packets": 9,
        "witness_agrees": True,
        "stalled_ns": [round(each * S) for each in stalled],
        "longest_ns": [round(each * S) for each in stalled],
        "stalls": [int(each > 0) for each in stalled],
        "refused": [each / 60 for each in stalled],
        "recovery_ns": 0,
    }
    blank = {name: 0 if kind == "int64" else None for name, kind in COLUMNS.items()}
    return pd.DataFrame({**blank, **some, **columns})[list(COLUMNS)].astype(COLUMNS)


def write_trace(
    folder: Path,
    *batches: Sequence[Events],
    name: str = "made.rxt",
    meta: dict[str, Any] = META,
    end: float = 10,
    **more: Any,
) -> Path:
    """Write batches of events to a trace in a folder; the trace ends `end` seconds after it began.

    :param more: other members of the note of each batch.
    """
    path = folder / name
    written: list[Events] = []
    with TraceWriter(path, meta, force=True) as writer:
        for number, batch in enumerate(batches):
            written.append(np.concatenate([np.empty(0, EVENT), *batch]))
            writer.write(written[-1], note(end * (number + 1) / (len(batches) + 1), 0, *written, **more))
        writer.close(note(end, 0, *written, end={"reason": "duration"}))
    return path


@functools.lru_cache(maxsize=64)
def _analysis(path: Path, thresholds: Thresholds) -> Analysis:
    return analyze(path, thresholds)


@pytest.fixture(scope="session", autouse=True)
def shared_analyses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Analyze each recording only once, and each trace in the directory given: no test changes those."""
    unchanged = tmp_path_factory.mktemp("unchanged").resolve()

    def analyze_once(path: Path | str, thresholds: Thresholds) -> Analysis:
        real = Path(path).resolve()
        if real.is_file() and {DATA, unchanged} & set(real.parents):
            return replace(_analysis(real, thresholds), path=Path(path))
        return analyze(path, thresholds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traces, "analyze", analyze_once)
        yield unchanged


@pytest.fixture
def make_trace(tmp_path: Path) -> Trace:
    """Writes batches of events to a trace that ends 10 s after it began."""
    return functools.partial(write_trace, tmp_path)


@pytest.fixture
def no_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawings of pages are empty: drawing takes long and has tests of its own."""
    empty = '<?xml version="1.0"?>\n<svg><path/></svg>'
    monkeypatch.setattr("toolkit.report.drawing.svg", lambda _: empty)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `toolkit` with arguments; gives its exit code, stdout and stderr."""

    def toolkit(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["toolkit", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return int(stopped.value.code or 0), *capsys.readouterr()

    return toolkit


def pytest_collection_finish() -> None:
    """Spare the garbage collector what was imported: each full collection would look at it for 0.3 s."""
    gc.freeze()


# Here, since this file is read also where pytest-xdist leaves the tests to its workers.
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print each scenario that was run again on a machine, of all workers."""
    done = [
        report
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "teardown" and report.nodeid.startswith("tests/machine/")
    ]
    repeats = [
        f"{report.nodeid}: {value}"
        for report in done
        for name, value in report.user_properties
        if name == "repeat"
    ]
    if done:
        terminalreporter.write_sep("=", f"scenarios that were run again: {len(repeats)}")
    for line in repeats:
        terminalreporter.write_line(line)
