# SPDX-License-Identifier: GPL-2.0-only
import json
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import runs_of
from toolkit.compare.comparison import Comparison, compare, summary
from toolkit.report import comparison as report
from toolkit.report import distributions, page

LOW, HIGH = [1.0, 2, 3, 4, 5], [11.0, 12, 13, 14, 15]


def _found(base: list[float] = HIGH, candidate: list[float] = LOW) -> Comparison:
    aside = runs_of([*candidate, 0], "patched", dropped=[0] * len(candidate) + [7])
    return compare(runs_of(base), aside)


def test_files_of_a_comparison_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _found()

    def draw(_: object, folder: Path) -> None:
        (folder / "distributions.png").touch()
        (folder / "distributions.svg").write_text("<?xml?><svg></svg>")

    monkeypatch.setattr(distributions, "save", draw)
    report.save(found, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(report.NAMES)
    assert json.loads((tmp_path / "comparison.json").read_text()) == summary(found)
    runs = pd.read_csv(tmp_path / "runs.csv")
    assert runs["set"].value_counts().to_dict() == {"candidate": 6, "base": 5}
    assert runs["set_aside"].dropna().tolist() == ["events were dropped"]
    assert "improved" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("terminal", [False, True])
def test_a_caveat_comes_before_the_numbers(terminal: bool, capsys: pytest.CaptureFixture[str]) -> None:
    found = compare(runs_of(HIGH, rate=600.0, size=60.0), runs_of(LOW, "patched", rate=6000.0, size=1500.0))
    report.render(found, terminal=terminal)
    out = " ".join(capsys.readouterr().out.split())
    assert 0 < out.index("The runs differ in more than the build: the load") < out.index("Metrics, medians")
    html = page.render(found, report.metric_table(found), "<svg></svg>")
    assert '<p class="care">The runs differ in more than the build: the load' in html


def test_the_table_has_units_and_intervals() -> None:
    table = report.metric_table(_found()).set_index("metric")
    stalled = table.loc["stalled time [s]"]
    assert (stalled["stock"], stalled["patched"], stalled["finding"]) == ("13.000", "3.000", "lower")
    assert stalled["difference (95 %)"].startswith("-10.000 (-")
    assert stalled["ratio (95 %)"].startswith("0.23 (")
    assert table.loc["open stalls", "finding"] == "the same in all runs"
    assert table.loc["refused frames [%]", "stock"] == "21.67"
    assert table.loc["recovery [s]", "adjusted p"] == "-"


def test_the_table_shows_no_nan() -> None:
    for found in (
        _found([1]),
        _found([0] * 5),
        _found([0, 0, 1, 1, 1]),
        compare(runs_of([1]), runs_of([2], "b")),
    ):
        cells = report.metric_table(found).to_numpy().ravel()
        assert not any("nan" in cell or "inf" in cell.split() for cell in cells)


@pytest.mark.parametrize("terminal", [False, True])
def test_rendered_comparison_begins_with_the_verdict(
    terminal: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    report.render(_found(), terminal=terminal)
    out = capsys.readouterr().out
    assert out.startswith("improved: From stock to patched (5 and 5 runs) stalled time fell")
    assert not terminal or max(map(len, out.splitlines())) <= 80
    assert "Set aside: patched/5/trace.rxt: events were dropped." in out
    assert " ".join(out.split()).endswith("virtio_net, kernel 6.1.0-test, scenario pressure.")
