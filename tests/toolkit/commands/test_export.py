# SPDX-License-Identifier: GPL-2.0-only
import subprocess
import sys
from pathlib import Path

from tests.conftest import Trace, window


def _export(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "toolkit", "export", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_to_standard_output(make_trace: Trace) -> None:
    done = _export(make_trace([window(1)]))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].startswith("eth1,1001000000000,")


def test_to_a_file_that_is_kept_without_force(make_trace: Trace, tmp_path: Path) -> None:
    trace, target = make_trace([window(1)]), tmp_path / "a.csv"
    assert _export(trace, "-o", target).returncode == 0
    size = target.stat().st_size
    done = _export(trace, "-o", target)
    assert (done.returncode, target.stat().st_size) == (1, size)
    assert "--force" in done.stderr
    assert _export(trace, "-o", target, "--force").returncode == 0


def test_what_is_not_a_trace_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.rxt").write_text("hello")
    done = _export(tmp_path / "a.rxt", "-o", tmp_path / "a.csv")
    assert done.returncode == 1
    assert not (tmp_path / "a.csv").exists()


def test_parquet_needs_a_name(make_trace: Trace) -> None:
    done = _export(make_trace(), "--format", "parquet")
    assert done.returncode == 1
    assert "-o FILE" in done.stderr


def test_a_damaged_trace_exits_with_3(make_trace: Trace) -> None:
    trace = make_trace([window(1)], [window(2)])
    trace.write_bytes(trace.read_bytes()[:-1500])
    done = _export(trace)
    assert done.returncode == 3
    assert "is cut off" in done.stderr


def test_a_full_disk_is_one_sentence(make_trace: Trace) -> None:
    command = [sys.executable, "-m", "toolkit", "export", str(make_trace([window(1)]))]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "toolkit: error: cannot write: No space left on device.\n"
