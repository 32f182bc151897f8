# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from tests.toolkit.fleet.recorded import recorded, write
from toolkit.errors import UserError
from toolkit.fleet import dataset
from toolkit.fleet.query import query

pytest.importorskip("duckdb")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(recorded(), tmp_path_factory.mktemp("query") / "fleet")


def test_tables_are_there_by_name(directory: Path) -> None:
    for name, rows in recorded().items():
        assert query(directory, f"SELECT count(*) AS n FROM {name}")["n"].item() == len(rows)
    found = query(
        directory, "SELECT driver, sum(duration_ns) AS ns FROM stalls GROUP BY driver ORDER BY ns DESC"
    )
    sums = recorded()["stalls"].groupby("driver")["duration_ns"].sum()
    assert dict(zip(found["driver"], found["ns"].astype(int), strict=True)) == sums.to_dict()
    # Null is not NaN, and does not make floats of integers.
    assert query(directory, "SELECT silent_ns FROM traces")["silent_ns"].dtype == "Int64"


def test_an_empty_dataset_has_tables(tmp_path: Path) -> None:
    dataset.create(tmp_path / "fleet")
    assert query(tmp_path / "fleet", "SELECT host FROM stalls").empty


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELEC", "syntax error"),
        ("SELECT nothing FROM stalls", '"nothing" not found'),
        ("SELECT * FROM stall", "stall does not exist"),
        ("", "write SELECT"),
        ("SELECT * FROM read_text('/etc/hostname')", "disabled"),
        ("COPY stalls TO 'stalls.csv'", "disabled"),
        ("DROP VIEW nothing", "nothing does not exist"),
        ("SET threads = 1", "locked"),
    ],
)
def test_wrong_sql_is_one_sentence(directory: Path, sql: str, words: str) -> None:
    with pytest.raises(UserError, match="quer") as error:
        query(directory, sql)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_no_dataset_no_query(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no dataset"):
        query(tmp_path, "SELECT 1")
