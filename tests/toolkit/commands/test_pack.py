# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

from tests.conftest import Run, Trace, window
from toolkit.trace.reader import TraceReader


def test_an_archive_is_a_trace(run: Run, make_trace: Trace, tmp_path: Path) -> None:
    path, packed = make_trace([window(1)], [window(2)]), tmp_path / "packed.rxt"
    code, out, err = run("pack", path, "-o", packed)
    assert (code, err) == (0, "")
    assert out.startswith(f"{packed}: 0.0 MB, ")
    assert [len(columns["ts"]) for columns, _ in TraceReader(packed)] == [0, 2, 0]


def test_an_existing_file_is_kept(run: Run, make_trace: Trace, tmp_path: Path) -> None:
    path, packed = make_trace([window(1)]), tmp_path / "packed.rxt"
    packed.write_text("precious")
    code, _, err = run("pack", path, "-o", packed)
    assert code == 1 and "--force" in err
    assert packed.read_text() == "precious"
    assert run("pack", path, "-o", packed, "--force")[0] == 0
    assert TraceReader(packed).meta["kernel"] == "6.1.0-test"


def test_a_trace_is_not_replaced_by_its_archive(run: Run, make_trace: Trace) -> None:
    path = make_trace([window(1)])
    before = path.read_bytes()
    code, _, err = run("pack", path, "-o", path, "--force")
    assert code == 1 and "is read" in err
    assert path.read_bytes() == before


def test_what_is_left_of_a_damaged_trace_is_packed(run: Run, make_trace: Trace, tmp_path: Path) -> None:
    path = make_trace([window(1)], [window(2)])
    path.write_bytes(path.read_bytes()[:-1500])
    code, _, err = run("pack", path, "-o", tmp_path / "packed.rxt")
    assert code == 3 and "is cut off" in err
    assert (tmp_path / "packed.rxt").exists()
