# SPDX-License-Identifier: GPL-2.0-only
import io
import json
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import distributed
import pytest

from tests.conftest import Run, Trace, window, worker_stall
from toolkit import extras
from toolkit.commands import fleet
from toolkit.fleet.run import Progress


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a cluster in this process."""
    with distributed.LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        yield cluster.scheduler_address


@pytest.fixture(autouse=True)
def sigterm() -> Iterator[None]:
    """The command takes SIGTERM for Ctrl-C, in a process of its own."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_directory_becomes_a_dataset(run: Run, make_trace: Trace, tmp_path: Path, scheduler: str) -> None:
    make_trace([window(1)], name="a.rxt")
    cut = make_trace(worker_stall(2, 4), [window(8)], name="b.rxt")
    cut.write_bytes(cut.read_bytes()[:-1500])
    where = ("fleet", tmp_path, "-o", tmp_path / "fleet", "--scheduler", scheduler)
    code, out, err = run(*where)
    assert (code, err) == (0, "2 traces, 2 to analyze\n")
    assert out == f"{tmp_path}/fleet: 2 traces: 2 analyzed (1 damaged).\n"
    code, out, _ = run(*where, "--json")
    assert (code, json.loads(out)) == (
        0,
        {
            "dataset": str(tmp_path / "fleet"),
            "traces": 2,
            "unchanged": 2,
            "analyzed": 0,
            "status": {},
            "interrupted": False,
        },
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["missing"], "missing does not exist."),
        ([".", "--workers", 2, "--scheduler", "tcp://127.0.0.1:1"], "leave it out with --scheduler"),
        ([".", "--host-from", "("], "is no regular expression"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(
    options: list[object], words: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run("fleet", *options, "-o", "fleet")
    assert (code, out) == (1, "") and err.count("\n") == 1
    assert err.startswith("toolkit: error: ") and words in err
    assert not list(tmp_path.iterdir())


def test_without_dask_a_sentence_says_how_to_get_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "dask" else name)
    code, _, err = run("fleet", ".", "-o", "fleet")
    assert code == 1 and "this needs dask, which is not installed" in err and "'.[fleet]'" in err


def test_an_interruption_says_how_to_go_on(
    run: Run, make_trace: Trace, tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_trace([window(1)])

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("toolkit.fleet.run._results", interrupt)
    code, out, err = run("fleet", tmp_path, "-o", tmp_path / "fleet", "--scheduler", scheduler)
    assert code == 130
    assert out == f"{tmp_path}/fleet: 1 trace: 0 analyzed, 1 left.\n"
    assert err.endswith("toolkit: error: interrupted; run the same command again to go on.\n")


def test_lines_say_how_far_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([100.0, 101.0, 115.0, 109.0, 110.0, 111.0])
    # Not that of the cluster, which goes on in this process.
    monkeypatch.setattr(fleet, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    show = fleet._lines()
    show(Progress(5000, 1000))
    show(Progress(5000, 1000, waiting=True))
    # The cluster may take long to begin.
    show(Progress(5000, 1000))
    for whole in (900, 1000, 1100):
        show(Progress(5000, 1000, analyzed=Counter(whole=whole, damaged=1)))
    assert capsys.readouterr().err.splitlines() == [
        "5,000 traces, 4,000 to analyze",
        "waiting for workers",
        "1,001 of 4,000 (1 damaged), 30 s left",
    ]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_bar_has_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with fleet._shown() as show:
        show(Progress(5000, 1000))
        show(Progress(5000, 1000, analyzed=Counter(whole=1000, unreadable=2)))
    assert "analyzed (2 unreadable)" in terminal.getvalue() and "1002/4000" in terminal.getvalue()
