# SPDX-License-Identifier: GPL-2.0-only
"""What `pip install .` installs works by itself, without checkout and bcc; what a recorder installs, too."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from toolkit.version import __version__

ROOT = Path(__file__).parent.parent
TRACE = ROOT / "tests" / "data" / "virtio_net_pressure" / "trace.rxt"


@pytest.mark.long
def test_wheel_analyzes_a_trace_anywhere(tmp_path: Path) -> None:
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-cache-dir",
    ]
    subprocess.run([*pip, "--wheel-dir", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info" not in name]
        assert {name.split("/")[0] for name in names if ".data/" not in name} == {"toolkit"}
        assert any(name.endswith(".data/data/share/man/man1/toolkit-trace.1") for name in names)
        assert "toolkit/analysis/virtio_net.py" in archive.namelist()
        probes = {str(path.relative_to(ROOT)) for path in (ROOT / "probes").rglob("*") if path.is_file()}
        assert {f"toolkit/{path}" for path in probes} <= set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "toolkit", "analyze", str(TRACE)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "eth1 went deaf once" in done.stdout


def test_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert headings[1].startswith(f"[{__version__}] - ")
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", each) for each in headings[1:])


def test_debian_package_is_made_of_what_is_here() -> None:
    (copied,) = re.findall(r"^sources=\((.+)\)$", (ROOT / "debian" / "build").read_text(), re.MULTILINE)
    assert [name for name in copied.split() if not (ROOT / name).exists()] == []
    rules = (ROOT / "debian" / "rules").read_text()
    (extras,) = re.findall(r'"\.\[(.+)\]"', rules)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= set(known)
    unit = (ROOT / "docs" / "systemd" / "rx-stall-record.service").read_text()
    assert "\nExecStart=/usr/local/bin/toolkit record --directory /var/lib/rx-stall\n" in unit


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_service_has_few_rights() -> None:
    """By systemd's own scale, on which 10 is a service with all of root's rights."""
    unit = ROOT / "docs" / "systemd" / "rx-stall-record.service"
    words = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=35", str(unit)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-200:] + done.stderr


def _names(requirements: list[str]) -> set[str]:
    return {re.split("[^a-z0-9-]", line)[0] for line in requirements}


def _dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [str(line) for line in project["dependencies"]]


def _recorder_requirements() -> list[str]:
    lines = (ROOT / "requirements-record.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def _run_recorder(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code without the packages that a recorder leaves out; typer brings rich."""
    absent = _names(_dependencies()) - _names(_recorder_requirements()) - {"rich"}
    assert "pandas" in absent
    code = f"import sys; sys.modules.update(dict.fromkeys({absent}))\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)


def test_recorder_requirements_are_dependencies() -> None:
    assert set(_recorder_requirements()) < set(_dependencies())


@pytest.mark.parametrize("module", ["capture.start", "capture.session", "live.recent", "trace.writer"])
def test_recorder_needs_no_other_package(module: str) -> None:
    done = _run_recorder(f"import toolkit.{module}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [["info", str(TRACE)], ["drivers"], ["trace", "--help"]])
def test_recorder_has_these_commands(words: list[str]) -> None:
    done = _run_recorder(f"from toolkit.cli import main; sys.argv[1:] = {words}; main()")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words", [["analyze", str(TRACE)], ["compare", str(TRACE), str(TRACE)], ["export", str(TRACE)]]
)
def test_recorder_says_how_to_get_the_other_commands(words: list[str]) -> None:
    done = _run_recorder(f"from toolkit.cli import main; sys.argv[1:] = {words}; main()")
    assert done.returncode == 1
    assert done.stderr == (
        "toolkit: error: this needs pandas, which is not installed; "
        f"in the toolkit's checkout, run: {sys.executable} -m pip install '.'\n"
    )
