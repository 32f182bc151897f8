# SPDX-License-Identifier: GPL-2.0-only
"""A survey of runs that are recordings: of a NIC that was deaf, of one that dropped, and a death."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import DATA
from vm.survey import outcome
from vm.survey.outcome import Outcome

DEATH = "BUG: kernel NULL pointer dereference, address: 0000000000000008; RIP: 0010:e100_poll+0x22a/0x5e0"


def _run(folder: Path, nics: dict[str, tuple[str, int]], log: Sequence[str] = ()) -> None:
    """Make a run of NICs: device -> driver, and frames that the interface took."""
    folder.mkdir(parents=True)
    for name in ("trace.rxt", "phases.json"):
        (folder / name).symlink_to(DATA / "generic" / name)
    for device in nics:
        (folder / f"{device}.json").symlink_to(DATA / "generic/witness.json")
    found = [{"device": device, "driver": driver, "taken": taken} for device, (driver, taken) in nics.items()]
    facts = {"kernel": "6.1.0-56-amd64", "nics": found, "log": log}
    (folder / "facts.json").write_text(json.dumps(facts))


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    out = tmp_path / "survey"
    _run(out / "nics/together/001", {"eth1": ("e1000e", 226_335), "eth2": ("vmxnet3", 200_000)})
    _run(out / "nics/together/002", {"eth2": ("vmxnet3", 260_000)}, log=["WARNING: x"])
    dead = out / "nics/eth8/001"
    dead.mkdir(parents=True)
    nics = [{"device": "eth8", "driver": "e100", "module": "e100"}]
    (dead / "facts.json").write_text(json.dumps({"nics": nics, "kernel": "6.1.0-56-amd64", "died": DEATH}))
    return out


@pytest.fixture
def outcomes(survey: Path) -> Sequence[Outcome]:
    return outcome.read(survey, ["nics"])
