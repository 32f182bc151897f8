# SPDX-License-Identifier: GPL-2.0-only
import io

import pytest

from tests.conftest import Terminal, runs_of
from toolkit.compare.comparison import Comparison, compare
from toolkit.report import comparison as report

LOW, HIGH = [1.0, 2, 3, 4, 5], [11.0, 12, 13, 14, 15]


def _found(base: list[float] = HIGH, candidate: list[float] = LOW) -> Comparison:
    aside = runs_of([*candidate, 0], "patched", dropped=[0] * len(candidate) + [7])
    return compare(runs_of(base), aside)


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_caveat_comes_before_the_numbers(stream: type[io.StringIO]) -> None:
    found = compare(runs_of(HIGH, rate=600.0, size=60.0), runs_of(LOW, "patched", rate=6000.0, size=1500.0))
    shown = stream()
    report.render(found, shown)
    out = " ".join(shown.getvalue().split())
    assert 0 < out.index("The runs differ in more than the build: the load") < out.index("Metrics, medians")


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


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_rendered_comparison_begins_with_the_verdict(stream: type[io.StringIO]) -> None:
    shown = stream()
    report.render(_found(), shown)
    out = shown.text() if isinstance(shown, Terminal) else shown.getvalue()
    assert out.startswith("improved: From stock to patched (5 and 5 runs) stalled time fell")
    assert stream is io.StringIO or max(map(len, out.splitlines())) <= 80
    assert "Set aside: patched/5/trace.rxt: events were dropped." in out
    assert " ".join(out.split()).endswith("virtio_net, kernel 6.1.0-test, scenario pressure.")
