# SPDX-License-Identifier: GPL-2.0-only
import json
import os
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import BEGAN, MS, Run, S, Trace, window, worker_stall
from toolkit import report
from toolkit.report.analyze import durations, poll_gaps, time_spent, timeline


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are empty files: drawing takes long and has tests of its own."""
    for picture in (timeline, durations, poll_gaps, time_spent):
        monkeypatch.setattr(picture, "render", lambda _trace, _png, _svg: None)


def test_analyze_alone_writes_no_file(run: Run, make_trace: Trace, tmp_path: Path) -> None:
    code, out, err = run("analyze", make_trace(worker_stall(2, 6)))
    assert (code, err) == (0, "")
    assert out.startswith("eth1 went deaf once in 10.0 s on queue 0, for 4.000 s")
    assert [path.name for path in tmp_path.iterdir()] == ["made.rxt"]


def test_analyze_writes_every_file(run: Run, make_trace: Trace, tmp_path: Path) -> None:
    assert run("analyze", make_trace(worker_stall(2, 6)), "-o", tmp_path / "out")[0] == 0
    assert sorted((tmp_path / "out").iterdir()) == sorted(report.files("analyze", tmp_path / "out"))


@pytest.mark.usefixtures("no_plots")
def test_what_exists_is_kept_without_force(run: Run, make_trace: Trace, tmp_path: Path) -> None:
    trace = make_trace([window(1)])
    (tmp_path / "summary.json").write_text("precious")
    code, _, err = run("analyze", trace, "-o", tmp_path)
    assert code == 1
    assert err.startswith("toolkit: error: ") and "--force" in err and err.count("\n") == 1
    assert (tmp_path / "summary.json").read_text() == "precious"
    assert run("analyze", trace, "-o", tmp_path, "--force")[0] == 0
    assert json.loads((tmp_path / "summary.json").read_text())["stalls"] == []


@pytest.mark.parametrize(
    ("limit", "code"), [("3.9s", 4), ("3900ms", 4), ("3.9", 4), ("4s", 0), ("1h", 0), ("1d", 2)]
)
def test_a_stall_that_is_longer_than_the_limit_fails(
    run: Run, make_trace: Trace, limit: str, code: int
) -> None:
    trace = make_trace([window(1), *worker_stall(2, 6)])
    found, out, err = run("analyze", trace, "--fail-over", limit)
    assert found == code
    assert out.startswith("eth1 went deaf once") == (code != 2)
    if code == 4:
        assert err == f"toolkit: error: {trace}: a stall of 4 s is longer than 3.9 s.\n"


def test_no_stall_in_a_trace_without_packets_is_no_success(run: Run, make_trace: Trace) -> None:
    code, _, err = run("analyze", make_trace(), "--fail-over", "1s")
    assert code == 3
    assert err.endswith("whether a stall was longer than 1 s is not known: there was no packet.\n")
    assert (
        run("analyze", make_trace([window(1), *worker_stall(2, 5)[2:]], name="b.rxt"), "--fail-over", "1s")[0]
        == 0
    )


@pytest.mark.usefixtures("no_plots")
def test_a_damaged_trace_gives_files_a_sentence_and_3(run: Run, make_trace: Trace, tmp_path: Path) -> None:
    trace = make_trace([window(1)], worker_stall(2, 4), [window(5)])
    trace.write_bytes(trace.read_bytes()[:-2000])
    code, out, err = run("analyze", trace, "-o", tmp_path / "out")
    assert code == 3
    assert "went deaf" in out
    assert err.startswith("toolkit: error: ") and "is cut off after" in err and err.count("\n") == 1
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["complete"] is False
    assert (tmp_path / "out" / "timeline.png").exists()


def test_analyze_refuses_what_is_no_trace(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.rxt").write_text("hello")
    code, out, err = run("analyze", tmp_path / "a.rxt", "-o", tmp_path / "out")
    assert (code, out) == (1, "")
    assert "is not a trace" in err and "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_analyze_prints_the_summary_as_json(run: Run, make_trace: Trace) -> None:
    code, out, _ = run("analyze", make_trace(worker_stall(2, 6)), "--json")
    assert code == 0
    assert json.loads(out)["stalls"][0]["duration_ns"] == 4 * S


@pytest.mark.usefixtures("no_plots")
def test_several_traces_get_a_directory_each(run: Run, make_trace: Trace, tmp_path: Path) -> None:
    traces = [make_trace(worker_stall(2, 6), name=name) for name in ("a.rxt", "b.rxt")]
    code, out, _ = run("analyze", *traces, "-o", tmp_path / "out", "--json")
    assert code == 0
    assert [each["trace"] for each in json.loads(out)] == ["a.rxt", "b.rxt"]
    assert (tmp_path / "out" / "b" / "summary.json").exists()
    assert pd.read_csv(tmp_path / "out" / "stalls.csv")["trace"].tolist() == [str(trace) for trace in traces]


@pytest.mark.usefixtures("no_plots")
def test_traces_of_the_same_name_in_several_directories(run: Run, make_trace: Trace, tmp_path: Path) -> None:
    for number in "12":
        (tmp_path / "runs" / number).mkdir(parents=True)
        make_trace([window(1)], name=f"runs/{number}/trace.rxt")
    code, out, _ = run("analyze", tmp_path / "runs", "-o", tmp_path / "out")
    assert code == 0
    assert [f"{tmp_path}/runs/{number}/trace.rxt:" in out for number in "12"] == [True, True]
    assert [(tmp_path / f"out/{number}/trace/summary.json").exists() for number in "12"] == [True, True]
    code, out, _ = run("analyze", *(tmp_path / f"runs/{number}/trace.rxt" for number in "21"), "--json")
    assert [each["path"] for each in json.loads(out)] == [
        f"{tmp_path}/runs/{number}/trace.rxt" for number in "21"
    ]


def test_a_directory_with_one_trace_is_that_trace(run: Run, make_trace: Trace, tmp_path: Path) -> None:
    make_trace([window(1)])
    assert run("analyze", tmp_path)[1].startswith("No stall: eth1")
    (tmp_path / "empty").mkdir()
    code, _, err = run("analyze", tmp_path / "empty")
    assert code == 1 and "there is no trace (*.rxt) in" in err


def test_a_trace_twice(run: Run, make_trace: Trace, tmp_path: Path) -> None:
    code, _, err = run("analyze", make_trace(), make_trace(), "-o", tmp_path / "out")
    assert code == 1 and "given twice" in err


def test_a_pipe_is_refused_with_the_reason(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.rxt")
    for name, what in ((tmp_path / "pipe.rxt", "is a pipe or a device"), ("-", "standard input is read")):
        code, _, err = run("analyze", name)
        assert code == 1 and err.count("\n") == 1
        assert what in err and "save it in a file first" in err


@pytest.mark.usefixtures("no_plots")
def test_witness_and_phases_are_analyzed_too(run: Run, make_trace: Trace, tmp_path: Path) -> None:
    gap = {"start_ns": 2 * S, "duration_ns": 4 * S, "refused": 8}
    clock = {"offset_ns": BEGAN, "error_ns": 0}
    (tmp_path / "w.json").write_text(json.dumps({"device": "eth1", "gaps": [gap], "clock": clock}))
    phase = {"name": "hold", "start_ns": BEGAN, "end_ns": BEGAN + S, "shortage": True}
    (tmp_path / "p.json").write_text(json.dumps({"scenario": "knob", "phases": [phase]}))
    files = ("--witness", tmp_path / "w.json", "--phases", tmp_path / "p.json")
    code, out, _ = run("analyze", make_trace(worker_stall(2, 6)), *files, "-o", tmp_path / "out")
    assert code == 0
    assert "The witness agrees" in out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["witness"]["gaps"] == [gap | {"start_ns": BEGAN + 2 * S}]
    assert summary["stalls"][0]["witness_difference_ns"] == 0
    assert summary["phases"] == [phase]
    assert run("analyze", make_trace(), make_trace(), *files)[0] == 1


def test_directory_that_cannot_be_made_is_one_sentence(run: Run, make_trace: Trace) -> None:
    code, _, err = run("analyze", make_trace(), "-o", "/proc/none/out")
    assert code == 1
    assert err.startswith("toolkit: error: /proc/none") and "Traceback" not in err


@pytest.mark.usefixtures("no_plots", "no_drawings")
def test_filters_are_those_of_text_json_and_report(run: Run, make_trace: Trace, tmp_path: Path) -> None:
    trace = make_trace([window(1), *worker_stall(2, 6), *worker_stall(7, 8, queue=1)])
    part = ("-d", "eth1", "-q", 1, "--from", 2.5, "--to", "1970-01-01T00:00:09", "--min-duration", 0.5)
    said = "Shown: eth1, queue 1, from 2.500 s to 9.000 s (00:00:02 to 00:00:09 UTC), stalls of "
    code, out, _ = run("analyze", trace, *part)
    assert code == 0 and out.startswith(said) and "1 of 2 stalls left out. eth1 went deaf once" in out
    found = json.loads(run("analyze", trace, *part, "--json", "-o", tmp_path / "out")[1])
    assert found["verdict"].startswith(said)
    assert found["shown"] == {
        "devices": ["eth1"],
        "queues": [1],
        "start_ns": BEGAN + 5 * S // 2,
        "end_ns": BEGAN + 9 * S,
        "shortest_ns": S // 2,
        "stalls_left_out": 1,
    }
    assert [each["start_ns"] for each in found["stalls"]] == [BEGAN + 7 * S]
    assert [each["start_utc"] for each in found["stalls"]] == ["1970-01-01T00:00:07+00:00"]
    assert found["began_utc"] == "1970-01-01T00:00:00+00:00"
    assert pd.read_csv(tmp_path / "out" / "stalls.csv")["queue"].tolist() == [1]
    assert run("analyze", trace, *part, "--html", tmp_path / "a.html", "--all")[0] == 0
    page = (tmp_path / "a.html").read_text()
    assert "<h1>one stall of 1.000 s shown, 1 left out</h1>" in page
    assert "-d eth1 -q 1 --from 2.5 --to 9 --min-duration 0.5 --all --html" in page
    assert json.loads(run("analyze", trace, "--json")[1])["shown"] is None


@pytest.mark.usefixtures("no_plots", "no_drawings")
def test_thresholds_are_those_of_text_json_and_report(run: Run, make_trace: Trace, tmp_path: Path) -> None:
    trace = make_trace([window(1), window(2, dur=30 * MS, polls=1), *worker_stall(4, 4.015)])
    code, out, _ = run("analyze", trace)
    assert code == 0 and "in 1 poll of 10 ms or longer" in out and "Thresholds:" not in out
    assert "thresholds" not in json.loads(run("analyze", trace, "--json")[1])
    chosen = ("--silence-over", "0.05", "--brief-under", "20ms")
    code, out, _ = run("analyze", trace, *chosen, "--html", tmp_path / "a.html")
    words = (
        "Thresholds: a silence lasts 50 ms or longer (default: 10 ms); a stall shorter than 20 ms is brief "
    )
    assert code == 0 and words in out
    assert out.startswith(
        "No stall: eth1 never went deaf for 20 ms or longer in 10.0 s (80 packets on 2 queues). Not counted: "
        "1 stall shorter than 20 ms, 0.015 s in all."
    )
    page = (tmp_path / "a.html").read_text()
    assert words in page and "--silence-over 50ms --brief-under 20ms --html" in page
    found = json.loads(run("analyze", trace, *chosen, "--json", "-o", tmp_path / "out")[1])
    assert found["thresholds"] == {"silence_over_ns": 50 * MS, "brief_under_ns": 20 * MS}
    assert found["silences"] == [] and [stall["class"] for stall in found["stalls"]] == ["brief"]
    assert pd.read_csv(tmp_path / "out" / "stalls.csv")["class"].tolist() == ["brief"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--silence-over", "9ms"], 1, "does not tell silences of 9 ms"),
        (["--brief-under", "1e9h"], 2, "'1e9h' is not a time such as 1s or 200ms"),
        (["--brief-under", "999999999h"], 1, "give a shorter time"),
        (["--silence-over", "1s", "--notebook", "a.ipynb"], 1, "--notebook has the default thresholds"),
    ],
)
def test_thresholds_that_cannot_be_are_refused(
    options: list[str], code: int, words: str, run: Run, make_trace: Trace
) -> None:
    found, out, err = run("analyze", make_trace([window(1)]), *options)
    assert (found, out) == (code, "") and words in err


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--from", "noon", "'noon' is no time: give seconds since the trace began, such as 3.5, or"),
        ("--to", "nan", "'nan' is no time"),
        ("--from", "1e300", "'1e300' is no time"),
        ("--min-duration", "inf", "--min-duration is a number of seconds"),
        ("-d", "eth7", "has no device 'eth7'; it has: eth1."),
        ("--from", "10", "has nothing from 10.000 s to 10.000 s"),
        ("--notebook", "a.ipynb", "--notebook shows the whole trace"),
    ],
)
def test_filters_that_cannot_be_are_one_sentence(
    run: Run, make_trace: Trace, option: str, value: str, sentence: str
) -> None:
    code, out, err = run("analyze", make_trace([window(1)]), "--from", "0", option, value)
    assert (code, out) == (1, "")
    assert sentence in err and err.count("\n") == 1


def test_all_stalls_are_listed_if_wanted(run: Run, make_trace: Trace) -> None:
    trace = make_trace(*(worker_stall(each, each + 0.5) for each in range(1, 31)), end=40)
    for more, title in (((), "The 20 longest stalls of 30"), (("--all",), "Stalls")):
        lines = run("analyze", trace, *more)[1].splitlines()
        assert title in lines
