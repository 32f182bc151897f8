# SPDX-License-Identifier: GPL-2.0-only
"""The page of a driver, of an experiment whose runs are recordings."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import toolkit
from tests.conftest import DATA
from toolkit.errors import UserError
from vm import results

RUNS = DATA / "virtio_net_variants"


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """A finished experiment: 2 runs of stock, 2 of paced, the first also as one of patched."""
    path = tmp_path / "out" / "pressure"
    for variant, of in (("stock", "stock"), ("paced", "paced"), ("patched", "paced")):
        (path / "runs" / variant).mkdir(parents=True)
        for run in ("001", "002")[: 1 if variant == "patched" else 2]:
            shutil.copytree(RUNS / of / run, path / "runs" / variant / run, copy_function=os.symlink)
    (path / "stock-paced").mkdir()
    (path / "stock-paced" / "distributions.png").write_bytes(b"a picture")
    plan = {
        "driver": "virtio_net",
        "variants": ["stock", "paced"],
        "scenario": ["pressure", "--duration", "40"],
        "seed": 7,
    }
    machine = {"description": "one NIC", "memory_mb": 1024, "cpus": 2}
    _write(path / "manifest.json", {"plan": plan, "machine": machine, "accel": "tcg"})
    comparison = json.loads((RUNS / "comparison.json").read_text())
    _write(path / "verdict.json", {"repeated": {"stock": 1, "paced": 2}, "comparisons": [comparison]})
    return path


def _write(path: Path, found: dict[str, Any]) -> None:
    path.write_text(json.dumps(found))


def _change(path: Path, **plan: Any) -> None:
    """Change the plan of a manifest."""
    found = json.loads(path.read_text())
    found["plan"] |= plan
    _write(path, found)


def test_page_says_what_was_run_and_found(experiment: Path, tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    (folder / "virtio_net").mkdir(parents=True)
    (folder / "virtio_net" / "old.png").touch()
    assert results.write("virtio_net", [experiment], folder) == folder / "virtio_net.md"
    page = (folder / "virtio_net.md").read_text()
    assert "SPDX" not in page.split("\n", 1)[1] and "## Under `pressure`" in page
    assert (
        "4 runs, each in a fresh machine: 2 of stock, 2 of paced. One NIC; 1024 MiB, 2 CPUs, tcg; kernel 6.1."
    ) in page
    assert "Runs that could not be used and were repeated: 3; set aside of the others: 0." in page
    comparison = json.loads((RUNS / "comparison.json").read_text())
    assert f"- **stock → paced: improved.** {comparison['sentence']}" in page
    title = "stock and paced under pressure: every run, by metric"
    assert f"![{title}](virtio_net/pressure-stock-paced.png)" in page
    (picture,) = (folder / "virtio_net").iterdir()
    assert (picture.name, picture.read_bytes()) == ("pressure-stock-paced.png", b"a picture")
    assert (
        "    python -m vm experiment virtio_net --scenario 'pressure --duration 40' --variants stock,paced "
        f"--runs 2 --seed 7 --out {experiment}\n"
    ) in page
    medians, _, shares = page.partition("Where the time went")
    assert "| stock | 68.4 | 44.8 | 40.0 | 9.0 | 0.0 | 0.8 | 0.0 | 0.0 | 5.4 | 6.2 |\n" in shares
    rows = {line.split(" | ")[0]: line.split(" | ")[1:] for line in medians.splitlines() if line[:2] == "| "}
    assert rows["| variant"][:2] == ["stalled time [s]", "longest stall [s]"]
    for variant in ("stock", "paced"):
        traces = [toolkit.read(RUNS / variant / run / "trace.rxt") for run in ("001", "002")]
        low, high = sorted(trace.stalls["duration_ns"].sum() / 1e9 for trace in traces)
        assert rows[f"| {variant}"][0] == f"{(low + high) / 2:.3f} ({low:.3f} to {high:.3f})"


def test_only_neighbours_are_drawn(experiment: Path, tmp_path: Path) -> None:
    """The words have every pair: here stock and paced, with patched between them."""
    _change(experiment / "manifest.json", variants=["stock", "patched", "paced"])
    page = results.write("virtio_net", [experiment], tmp_path / "docs").read_text()
    assert "- **stock → paced: improved.**" in page
    assert "![" not in page


def test_experiment_that_is_not_finished_is_refused(experiment: Path, tmp_path: Path) -> None:
    (experiment / "verdict.json").unlink()
    with pytest.raises(UserError, match="holds no finished experiment"):
        results.write("virtio_net", [experiment], tmp_path / "docs")


def test_experiment_with_another_driver_is_refused(experiment: Path, tmp_path: Path) -> None:
    _change(experiment / "manifest.json", driver="qlge")
    with pytest.raises(UserError, match="is an experiment with qlge, not virtio_net"):
        results.write("virtio_net", [experiment], tmp_path / "docs")
