# SPDX-License-Identifier: GPL-2.0-only
"""What `pip install .` installs works by itself: probes included, no checkout, no bcc."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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
