# SPDX-License-Identifier: GPL-2.0-only
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import META, MS, Run, S, window, worker_stall, write_trace
from toolkit import report
from toolkit.report.compare import distributions


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are empty: drawing takes long and is tested in test_distributions."""
    monkeypatch.setattr(distributions, "render", lambda _found, _png, svg: svg.write(b"<svg></svg>"))


@pytest.fixture(scope="module")
def sets(shared_analyses: Path) -> tuple[Path, Path]:
    """5 runs that stall for 1 s and more, and 5 of another build that do not; no test changes them."""
    patched = META | {"drivers": [META["drivers"][0] | {"variant": "patched"}]}
    for number in range(5):
        for name, meta in (("stock", META), ("patched", patched)):
            folder = shared_analyses / name / str(number)
            folder.mkdir(parents=True)
            events = worker_stall(2, 3 + number / 10) if name == "stock" else []
            write_trace(folder, [window(1), *events, window(8)], name="trace.rxt", meta=meta)
    return shared_analyses / "stock", shared_analyses / "patched"


@pytest.fixture
def linked_sets(sets: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """Links to the same runs, in directories that a test may change."""
    for folder in sets:
        shutil.copytree(folder, tmp_path / folder.name, copy_function=os.symlink)
    return tmp_path / "stock", tmp_path / "patched"


def test_compare_alone_writes_no_file(
    run: Run, sets: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run("compare", *sets)
    assert (code, err) == (0, "")
    assert out.startswith("improved: From stock to patched (5 and 5 runs) stalled time fell from a median")
    assert list(tmp_path.iterdir()) == []
    assert sorted(path.name for path in sets[0].parent.iterdir()) == ["patched", "stock"]


def test_swapped_sets_are_worse(run: Run, sets: tuple[Path, Path]) -> None:
    code, out, _ = run("compare", *reversed(sets), "--json")
    assert code == 0
    assert json.loads(out)["verdict"] == "worse"
    code, out, err = run("compare", *reversed(sets), "--fail-on", "worse")
    assert (code, err) == (4, "")
    assert out.startswith("worse: ")
    assert run("compare", *sets, "--fail-on", "worse")[0] == 0
    assert run("compare", *sets, "--fail-on", "better")[0] == 2


@pytest.mark.usefixtures("no_plots")
def test_both_sets_have_the_same_thresholds(run: Run, sets: tuple[Path, Path], tmp_path: Path) -> None:
    code, out, _ = run("compare", *sets, "--brief-under", "2s", "-o", tmp_path / "out")
    assert code == 0 and "Thresholds: a stall shorter than 2 s is brief (default: 10 ms)." in out
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert found["thresholds"] == {"silence_over_ns": 10 * MS, "brief_under_ns": 2 * S}
    (stalls,) = (row for row in found["metrics"] if row["name"] == "stalls")
    assert (stalls["base_median"], stalls["candidate_median"]) == (0, 0)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "a stall shorter than 2 s is brief" in page and f"{sets[1]} --brief-under 2s</code>" in page
    code, out, _ = run("compare", *sets, "--json")
    assert code == 0 and "hreshold" not in out
    code, _, err = run("compare", *sets, "--silence-over", "1ms")
    assert code == 1 and "does not tell silences of 1 ms" in err and err.count("\n") == 1


@pytest.mark.usefixtures("no_plots")
def test_compare_writes_every_file(run: Run, sets: tuple[Path, Path], tmp_path: Path) -> None:
    code, out, _ = run("compare", *sets, "-o", tmp_path / "out", "--json")
    assert code == 0
    assert sorted((tmp_path / "out").iterdir()) == sorted(report.files("compare", tmp_path / "out"))
    assert (tmp_path / "out" / "comparison.json").read_text() == out


@pytest.mark.usefixtures("no_plots")
def test_what_exists_is_kept_without_force(run: Run, sets: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("precious")
    code, out, err = run("compare", *sets, "-o", tmp_path)
    assert (code, out) == (1, "")
    assert "runs.csv exists" in err and "--force" in err and err.count("\n") == 1
    assert (tmp_path / "runs.csv").read_text() == "precious"
    assert run("compare", *sets, "-o", tmp_path, "--force")[0] == 0


@pytest.mark.usefixtures("no_plots")
def test_two_traces_cannot_say_and_exit_with_3(run: Run, sets: tuple[Path, Path], tmp_path: Path) -> None:
    traces = [each / "0" / "trace.rxt" for each in sets]
    code, out, err = run("compare", *traces, "-o", tmp_path / "out")
    assert (code, err) == (3, "")
    assert out.startswith("cannot say: 1 run of stock and 1 of patched are too few")
    assert (tmp_path / "out" / "report.html").exists()


def test_a_damaged_trace_is_set_aside(run: Run, linked_sets: tuple[Path, Path]) -> None:
    base, candidate = linked_sets
    shutil.copytree(candidate / "0", candidate / "5")
    (trace,) = (candidate / "5").iterdir()
    trace.write_bytes(trace.read_bytes()[:-300])
    code, out, _ = run("compare", base, candidate)
    assert code == 0
    assert f"Set aside: {trace}: the trace is not whole." in out


@pytest.mark.parametrize(
    ("candidate", "sentence"),
    [
        ("empty", "there is no trace"),
        ("none.rxt", "does not exist"),
        ("not.rxt", "is not a trace"),
        ("stock", "is in both sets"),
    ],
)
def test_a_mistake_is_one_sentence(
    candidate: str, sentence: str, run: Run, linked_sets: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "not.rxt").write_text("hello")
    code, out, err = run("compare", linked_sets[0], tmp_path / candidate, "-o", tmp_path / "out")
    assert (code, out) == (1, "")
    assert err.startswith("toolkit: error: ") and sentence in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_mixed_builds_are_refused(run: Run, linked_sets: tuple[Path, Path]) -> None:
    base, candidate = linked_sets
    shutil.move(candidate / "0", base / "5")
    code, _, err = run("compare", base, candidate)
    assert code == 1
    assert "the base mixes builds of the driver: " in err
    assert "stock (srcversion 0)" in err and "patched (srcversion 0)" in err
