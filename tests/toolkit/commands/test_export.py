# SPDX-License-Identifier: GPL-2.0-only
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import BEGAN, Run, S, Trace, window
from toolkit import extras
from toolkit.paths import PROBES


def test_events_go_to_standard_output(run: Run, make_trace: Trace) -> None:
    code, out, err = run("export", make_trace([window(1)]))
    assert (code, err) == (0, "")
    assert out.splitlines()[1].startswith("eth1,1001000000000,")


def test_exported_file_is_kept_without_force(run: Run, make_trace: Trace, tmp_path: Path) -> None:
    trace, target = make_trace([window(1)]), tmp_path / "a.jsonl"
    arguments = ("export", trace, "--format", "jsonl", "-o", target)
    assert run(*arguments)[0] == 0
    target.write_text("precious")
    code, _, err = run(*arguments)
    assert code == 1
    assert "--force" in err
    assert target.read_text() == "precious"
    assert run(*arguments, "--force")[0] == 0
    assert target.read_text().startswith('{"device":"eth1"')


def test_export_of_what_is_no_trace_leaves_no_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.rxt").write_text("hello")
    assert run("export", tmp_path / "a.rxt", "-o", tmp_path / "a.csv")[0] == 1
    assert not (tmp_path / "a.csv").exists()


def test_parquet_needs_a_name(run: Run, make_trace: Trace) -> None:
    code, _, err = run("export", make_trace(), "--format", "parquet")
    assert code == 1
    assert "-o FILE" in err


def test_a_damaged_trace_exits_with_3(run: Run, make_trace: Trace) -> None:
    trace = make_trace([window(1)], [window(2)])
    trace.write_bytes(trace.read_bytes()[:-1500])
    code, out, err = run("export", trace)
    assert code == 3
    assert out.startswith("device,ts,")
    assert "is cut off" in err


def test_a_full_disk_is_one_sentence(make_trace: Trace) -> None:
    command = [sys.executable, "-m", "toolkit", "export", str(make_trace([window(1)]))]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "toolkit: error: cannot write: No space left on device.\n"


def test_export_for_perfetto_is_a_perfetto_trace(run: Run, make_trace: Trace, tmp_path: Path) -> None:
    trace, target = make_trace([window(1)]), tmp_path / "a.pftrace"
    assert run("export", trace, "--perfetto")[0] == 1
    assert run("export", trace, "--perfetto", "--format", "csv", "-o", target)[0] == 1
    assert not target.exists()
    assert run("export", trace, "--perfetto", "-o", target) == (0, "", "")
    assert b"eth1 (virtio_net)" in target.read_bytes()


def test_a_missing_extra_is_named(run: Run, make_trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    monkeypatch.delitem(sys.modules, "toolkit.report.export.perfetto", raising=False)
    code, _, err = run("export", make_trace(), "--perfetto", "-o", "/dev/null")
    assert code == 1
    assert "pip install '.[perfetto]'" in err


def test_witness_goes_with_perfetto_and_is_not_written_over(
    run: Run, make_trace: Trace, tmp_path: Path
) -> None:
    trace, target, file = make_trace([window(1)]), tmp_path / "a.pftrace", tmp_path / "w.json"
    gap = {"start_ns": 2 * S, "duration_ns": S, "refused": 3}
    clock = {"offset_ns": BEGAN, "error_ns": 0}
    file.write_text(json.dumps({"device": "eth1", "gaps": [gap], "clock": clock}))
    code, _, err = run("export", trace, "--witness", file)
    assert code == 1 and "--witness goes with --perfetto" in err
    code, _, err = run("export", trace, "--perfetto", "--witness", file, "-o", file, "--force")
    assert code == 1 and "is read" in err
    assert run("export", trace, "--perfetto", "--witness", file, "-o", target) == (0, "", "")
    assert b"3 refused frames" in target.read_bytes()


def test_an_unknown_format_is_refused_with_the_known_ones(run: Run, make_trace: Trace) -> None:
    code, _, err = run("export", make_trace(), "--format", "xml")
    assert code == 2
    assert "'xml' is not one of 'csv', 'folded', 'jsonl', 'parquet', 'perfetto'." in err


def test_perfetto_is_a_format_as_well(run: Run, make_trace: Trace, tmp_path: Path) -> None:
    trace = make_trace([window(1)])
    for name, options in (("a", ("--perfetto",)), ("b", ("--format", "perfetto"))):
        assert run("export", trace, *options, "-o", tmp_path / name) == (0, "", "")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_in_the_place_of_formats_is_a_format(make_trace: Trace, tmp_path: Path) -> None:
    """In a copy of the package: the formats are those that lie there when it is loaded."""
    copy = tmp_path / "copy"
    shutil.copytree(PROBES.parent / "toolkit", copy / "toolkit", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("probes", "analysis"):
        (copy / name).symlink_to(PROBES.parent / name)
    (copy / "toolkit" / "report" / "export" / "kinds.py").write_text(
        "FILES = ('kinds',)\nIS_TEXT = True\n\n"
        "def render(trace, out):\n    out.write(' '.join(trace.events['kind']).encode())\n"
    )
    command = [sys.executable, "-m", "toolkit", "export"]
    environment = {"PYTHONPATH": str(copy), "COLUMNS": "100"}
    done = subprocess.run([*command, "--help"], env=environment, cwd=copy, capture_output=True, text=True)
    assert "csv|folded|jsonl|kinds|parquet|perfetto" in done.stdout
    written = [*command, str(make_trace([window(1)])), "--format", "kinds"]
    done = subprocess.run(written, env=environment, cwd=copy, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("window", "")
