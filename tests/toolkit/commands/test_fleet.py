# SPDX-License-Identifier: GPL-2.0-only
import json
from pathlib import Path

import pytest

from tests.conftest import Run
from tests.toolkit.fleet.recorded import copies, write


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
