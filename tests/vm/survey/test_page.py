# SPDX-License-Identifier: GPL-2.0-only
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.vm.survey.conftest import DEATH
from vm.paths import CHECKOUT
from vm.survey import page
from vm.survey.outcome import Outcome


def _rows(text: str, title: str) -> dict[tuple[str, str], dict[str, str]]:
    """Return the cells of the table that has a column, by driver and kernel."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    starts = [number for number, line in enumerate(lines) if line[0] == "driver"] + [len(lines)]
    (at,) = (number for number, start in enumerate(starts[:-1]) if title in lines[start])
    head, _, *rows = lines[starts[at] : starts[at + 1]]
    return {(row[0], row[1]): dict(zip(head, row, strict=True)) for row in rows}


def test_row_has_the_median_of_its_runs_and_their_range(outcomes: Sequence[Outcome]) -> None:
    text = page.render(outcomes)
    long, much = _rows(text, "deaf [s]"), _rows(text, "lost frames [%]")
    assert list(long) == list(much) == [("e100", "6.1"), ("e1000e", "6.1"), ("vmxnet3", "6.1")]
    assert long["e1000e", "6.1"]["deaf [s]"] == "5.0"
    assert long["e1000e", "6.1"]["state"] == "no-work"
    assert long["vmxnet3", "6.1"]["state"] == "dropping"
    assert (long["e1000e", "6.1"]["runs"], long["vmxnet3", "6.1"]["runs"]) == ("1", "2")
    assert much["vmxnet3", "6.1"]["lost frames [%]"] == "13.1 [1.7 to 24.4]"
    assert much["e1000e", "6.1"]["failed allocations"] == "27"


def test_death_is_a_finding_and_no_number(outcomes: Sequence[Outcome]) -> None:
    text = page.render(outcomes)
    row = _rows(text, "deaf [s]")["e100", "6.1"]
    assert row["runs"] == "1, 1 died"
    assert {row[title] for title in row} >= {"-"}
    assert f"e100, Linux 6.1, run 1: `{DEATH}`" in " ".join(text.split())
    assert "- Linux 6.1, run 2: `WARNING: x`" in " ".join(text.split())


def test_files_are_page_picture_and_runs(outcomes: Sequence[Outcome], tmp_path: Path) -> None:
    written = page.write(tmp_path, outcomes)
    assert written.read_text() == page.render(outcomes)
    assert (tmp_path / "survey/survey.png").read_bytes().startswith(b"\x89PNG")
    kept = json.loads((tmp_path / "survey/runs.json").read_text())
    assert kept == json.loads(json.dumps([asdict(run) for run in outcomes]))


def test_page_of_the_project_is_of_its_runs() -> None:
    kept = json.loads((CHECKOUT / "docs/results/survey/runs.json").read_text())
    rows = _rows((CHECKOUT / "docs/results/survey.md").read_text(), "deaf [s]")
    assert set(rows) == {(run["driver"], run["kernel"]) for run in kept}
    for (driver, kernel), row in rows.items():
        of = [run for run in kept if (run["driver"], run["kernel"]) == (driver, kernel)]
        assert row["runs"].split(",")[0] == str(len(of))
