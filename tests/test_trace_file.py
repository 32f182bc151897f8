# SPDX-License-Identifier: GPL-2.0-only
"""The lines that docs/trace-file.md shows do what it says, in whatever tool they are for."""

import re
from pathlib import Path
from typing import Any

import pytest

import toolkit
from tests.conftest import DATA
from toolkit.report.export import parquet

PAGE = Path(__file__).parent.parent / "docs" / "trace-file.md"
BLOCKS = re.findall(r"```python\n(.+?)```", PAGE.read_text(), re.DOTALL)
TRACE = DATA / "qlge" / "unfixed" / "trace.rxt"
PACKETS = [(2, 0), (3, 69744)]
FAILED = [(3, 331)]


def _pairs(table: Any) -> list[tuple[int, int]]:
    """Return the rows of a table of any of the tools."""
    if isinstance(table, list):
        return table
    return list(table.items()) if hasattr(table, "items") else table.rows()


@pytest.mark.parametrize("block", BLOCKS, ids=[block.split("\n\n")[-2].split()[1] for block in BLOCKS])
def test_lines_of_the_page_work(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """polars and DuckDB are tested where they are installed: together they have 250 MB."""
    for name in ("polars", "duckdb"):
        if f"import {name}" in block:
            pytest.importorskip(name)
    (tmp_path / "before.rxt").symlink_to(TRACE)
    with (tmp_path / "before.parquet").open("wb") as file:
        parquet.render(toolkit.read(TRACE), file)
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(block, found)
    assert {"packets", "failed"} & set(found)
    assert _pairs(found.get("packets", PACKETS)) == PACKETS
    assert _pairs(found.get("failed", FAILED)) == FAILED
    assert found.get("kernel", "6.1.0-56-amd64") == "6.1.0-56-amd64"
