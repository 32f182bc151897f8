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

from tests.conftest import MS, Run, Trace, window, worker_stall
from tests.toolkit.fleet.recorded import copies, write
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
    said, found = out.split("\n", 1)
    assert said == f"{tmp_path}/fleet: 2 traces: 2 analyzed (1 damaged)."
    assert "1 of 2 traces are whole (50.0 %)." in found
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


@pytest.mark.usefixtures("no_drawings")
def test_thresholds_are_told_by_text_json_and_page(
    run: Run, make_trace: Trace, tmp_path: Path, scheduler: str
) -> None:
    make_trace([window(1), window(2, dur=30 * MS, polls=1), *worker_stall(4, 4.015)])
    where = ("fleet", tmp_path, "-o", tmp_path / "fleet", "--scheduler", scheduler)
    code, out, _ = run(*where)
    assert code == 0 and "Thresholds:" not in out
    chosen = ("--silence-over", "50ms", "--brief-under", "20ms")
    code, out, _ = run(*where, *chosen, "--html", tmp_path / "fleet.html")
    words = (
        "Thresholds: a silence lasts 50 ms or longer (default: 10 ms); a stall shorter than 20 ms is brief "
    )
    assert code == 0 and words in out
    page = (tmp_path / "fleet.html").read_text()
    assert words in page and "other silences of 50 ms and longer" in page
    limits = {"silence_over_ns": 50 * MS, "brief_under_ns": 20 * MS}
    assert json.loads(run(*where, *chosen, "--json")[1])["thresholds"] == limits
    found = json.loads(run("fleet", "-o", tmp_path / "fleet", "--json")[1])
    assert found["thresholds"] == [limits | {"traces": 1}]
    # What is brief is time all the same; of it, nothing is left of the poll.
    assert found["totals"]["silence_ns"] == 15 * MS


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["missing"], "missing does not exist."),
        ([".", "--silence-over", "9ms"], "does not tell silences of 9 ms"),
        (["--brief-under", "9ms"], "--silence-over and --brief-under go with a SOURCE"),
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


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of copies: every third of 60 hosts has a build with shorter stalls."""
    hosts = [f"h{number:02}" for number in range(60)]
    builds = ["new" if number % 3 == 0 else "old" for number in range(60)]
    shorter = [0.1 if build == "new" else 1 for build in builds]
    tables = copies(hosts, only="virtio_net_variants/stock", build=builds, stalls=shorter)
    return write(tables, tmp_path_factory.mktemp("command") / "fleet")


def test_a_dataset_is_shown_as_it_is(dataset: Path, run: Run) -> None:
    code, out, err = run("fleet", "-o", dataset)
    assert (code, err) == (0, "")
    assert out.startswith("60 of 60 hosts were silent, up to ")
    assert "Silence by kernel" in out
    code, out, _ = run("fleet", "-o", dataset, "--json")
    assert code == 0 and json.loads(out)["totals"]["hosts"] == 60


def test_before_and_after_a_rollout(dataset: Path, run: Run) -> None:
    conditions = ("--before", "build=old", "--after", "build=new")
    code, out, _ = run("fleet", "-o", dataset, *conditions)
    assert code == 0 and "improved: From build=old to build=new (40 hosts and 20 other ones)" in out
    code, out, _ = run("fleet", "-o", dataset, *conditions, "--json")
    assert code == 0 and json.loads(out)["rollout"]["verdict"] == "improved"


def test_rows_of_a_query(dataset: Path, run: Run) -> None:
    sql = "SELECT build, count(*) AS traces, max(day) AS day FROM traces GROUP BY build ORDER BY build"
    code, out, _ = run("fleet", "-o", dataset, "--query", sql)
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["build", "traces"],
        ["new", "20"],
        ["old", "40"],
    ]
    code, out, _ = run("fleet", "-o", dataset, "--query", sql, "--json")
    assert [row["traces"] for row in json.loads(out)] == [20, 40]
    code, out, _ = run("fleet", "-o", dataset, "--query", "SELECT host FROM stalls WHERE false")
    assert (code, out) == (0, "no row\n")


@pytest.mark.long
def test_a_page_is_written_once(dataset: Path, run: Run, tmp_path: Path) -> None:
    page = tmp_path / "fleet.html"
    page.write_text("mine")
    code, _, err = run("fleet", "-o", dataset, "--html", page)
    assert code == 1 and "--force" in err and page.read_text() == "mine"
    assert run("fleet", "-o", dataset, "--html", page, "--force")[0] == 0
    assert "60 of 60 hosts were silent" in page.read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--query", "SELECT"], "the query cannot be answered: "),
        (["--query", "SELECT 1", "--html", "x.html"], "--query prints its rows only"),
        (["--before", "build=old"], "--before and --after go together"),
        (
            ["--before", "build=old", "--after", "build=x"],
            "no trace has build=x; there are the builds new, old",
        ),
        (["--before", "build=old", "--after", "host=*"], "40 traces would be before and after"),
        (["--workers", "2"], "go with a SOURCE"),
    ],
)
def test_a_mistake_is_one_sentence(dataset: Path, run: Run, options: list[str], words: str) -> None:
    code, out, err = run("fleet", "-o", dataset, *options)
    assert (code, out) == (1, "")
    assert words in err and err.startswith("toolkit: error: ") and err.count("\n") == 1


def test_no_dataset_is_said(run: Run, tmp_path: Path) -> None:
    code, _, err = run("fleet", "-o", tmp_path)
    assert code == 1 and "is no dataset of `toolkit fleet`" in err
