# SPDX-License-Identifier: GPL-2.0-only
import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from tests.conftest import DATA
from toolkit.errors import UserError
from toolkit.fleet import dataset, rows, sources
from toolkit.fleet.dataset import SCHEMAS
from toolkit.stalls.analysis import analyze

ROOT = Path(__file__).parents[3]


def tables(*places: str, status: str = dataset.WHOLE) -> dict[str, pa.Table]:
    """Return the tables of a part with a row for each place in each of them."""
    row = {"day": date(2026, 1, 31), "status": status}
    return {
        name: pa.Table.from_pylist([{"place": place, **row} for place in places], schema)
        for name, schema in SCHEMAS.items()
    }


@pytest.mark.parametrize("trace", sorted(DATA.glob("*/trace.rxt")) + sorted(DATA.glob("*/stock/trace.rxt")))
def test_each_column_of_an_analysis_is_in_the_dataset(trace: Path) -> None:
    found = analyze(trace)
    for name in ("stalls", "silences", "queues"):
        assert set(getattr(found, name)) <= set(SCHEMAS[name].names), name


def test_columns_have_their_units() -> None:
    units = {
        f"{name}.{field.name}": field.metadata[b"unit"].decode()
        for name, schema in SCHEMAS.items()
        for field in schema
    }
    assert units["stalls.duration_ns"] == "ns" and units["stalls.posted"] == "buffers"
    assert units["queues.size"] == "buffers" and units["traces.size"] == "byte"
    assert units["traces.status"] == "1"


def test_parts_are_read_as_one_table(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "fleet"
    dataset.create(folder)
    assert dataset.table(folder, "stalls").schema == SCHEMAS["stalls"]
    dataset.add(folder, tables("/a", "/b"))
    dataset.add(folder, tables("/c"))
    for name, schema in SCHEMAS.items():
        found = dataset.table(folder, name)
        assert found["place"].to_pylist() == ["/a", "/b", "/c"]
        assert found.schema.equals(schema, check_metadata=True)
        assert dataset.table(folder, name, ["day", "place"]).column_names == ["place", "day"]


def test_times_are_read_where_the_system_has_no_time_zones(tmp_path: Path) -> None:
    dataset.create(tmp_path / "fleet")
    lines = "import sys; from toolkit.fleet import dataset; from pathlib import Path"
    lines += "; print(dataset.table(Path(sys.argv[1]), 'traces').to_pandas().dtypes['began_utc'])"
    words = [sys.executable, "-c", lines, str(tmp_path / "fleet")]
    # The directories in which zoneinfo looks before it takes the package.
    nowhere = {**os.environ, "PYTHONTZPATH": "", "PYTHONPATH": str(ROOT)}
    found = subprocess.run(words, env=nowhere, check=True, capture_output=True, text=True)
    assert found.stdout == "datetime64[us, UTC]\n"


def test_a_later_part_replaces_what_an_earlier_one_has(tmp_path: Path) -> None:
    dataset.create(tmp_path)
    dataset.add(tmp_path, tables("/a", "/b"))
    dataset.add(tmp_path, tables("/c", status=dataset.DAMAGED))
    dataset.add(tmp_path, tables("/c", "/a", status=dataset.NEWER))
    (tmp_path / ".new-killed").mkdir()
    for _ in range(2):
        dataset.drop_replaced(tmp_path)
        found = dataset.table(tmp_path, "traces").select(["place", "status"]).to_pylist()
        assert [(row["place"], row["status"]) for row in found] == [
            ("/b", "whole"),
            ("/a", "newer"),
            ("/c", "newer"),
        ]
        assert dataset.table(tmp_path, "stalls")["place"].to_pylist() == ["/b", "/a", "/c"]
        assert not list(tmp_path.glob(".new*")) and len(dataset.parts(tmp_path)) == 2


def test_an_older_part_has_null_in_a_new_column(tmp_path: Path) -> None:
    dataset.create(tmp_path)
    dataset.add(tmp_path, {name: rows.drop(["regime"]) for name, rows in tables("/a").items()})
    assert dataset.table(tmp_path, "queues")["regime"].to_pylist() == [None]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("thesis.txt", "precious", "is not empty and no dataset"),
        (dataset.MARK, "{", "is damaged"),
        (dataset.MARK, '{"format": 99}', "has format 99"),
    ],
)
def test_what_is_something_else_is_refused(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=words):
        dataset.create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_directory_without_the_mark_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no dataset .* there is no fleet\.json"):
        dataset.table(tmp_path, "stalls")


def _recorded(folder: Path) -> None:
    """Make the dataset `fleet` of a recording, in two parts."""
    dataset.create(folder / "fleet")
    for name in ("virtio_net_spinning", "virtio_net_pressure"):
        (source,) = sources.find([str(DATA / name / "trace.rxt")])
        found = rows.tables(source, "rules", re.compile(r"data/(?P<host>\w+)"), None)
        dataset.add(folder / "fleet", found)


def test_lines_of_the_page_work_in_other_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _recorded(tmp_path)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "fleet.md").read_text()
    (sql,) = re.findall(r"```sql\n(.+?)```", page, re.DOTALL)
    found = duckdb.connect().execute(sql).fetchall()
    assert sorted(host for host, _ in found) == ["virtio_net_pressure", "virtio_net_spinning"]
    pytest.importorskip("polars")
    (lines,) = re.findall(r"```python\n(import polars.+?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(lines, names)
    assert names["worst"]["host"].to_list() == ["virtio_net_spinning", "virtio_net_pressure"]
