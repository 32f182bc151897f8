# SPDX-License-Identifier: GPL-2.0-only
"""Drivers of which only the ring is declared, on a real kernel: what is posted, and when nothing is."""

import json
from pathlib import Path

import pytest

import toolkit
from tests.machine.harness.lab import Lab
from vm import guest, trial


@pytest.mark.machine("nics")
def test_declared_ring_is_empty_as_long_as_the_sender_is_refused(
    lab: Lab, machine: guest.Guest, tmp_path: Path
) -> None:
    """e1000e (eth1) runs out of buffers; vmxnet3 (eth2) keeps them and drops frames."""
    traced = ["-d", "eth1", "-d", "eth2"]
    with trial.wire(machine, trial.Traffic(nic=1, rate=1500), tmp_path / "eth2.json"):
        files = lab.trial(
            machine,
            tmp_path,
            "knob",
            "--hold",
            "4",
            traffic=trial.Traffic(rate=3000),
            options=traced,
            driver="",
            alone=True,
            reached=lambda analysis: set(analysis.stalls["device"]) >= {"eth1", "eth2"},
        )
    found = toolkit.read(files.trace, files.witness, files.phases)
    assert [driver["name"] for driver in found.meta["drivers"]] == ["e1000e", "vmxnet3"]
    longest = found.stalls.loc[found.stalls.groupby("device")["duration_ns"].idxmax()].set_index("device")
    assert longest[["driver", "state"]].to_numpy().tolist() == [
        ["e1000e", "starved"],
        ["vmxnet3", "dropping"],
    ]
    assert (longest["order"] == 0).all() and not longest["open"].any()
    hold = next(p for p in json.loads(files.phases.read_text())["phases"] if p["name"] == "hold")
    # e1000e is deaf until its watchdog comes, every 2 s.
    assert longest["duration_ns"]["eth1"] == pytest.approx(hold["end_ns"] - hold["start_ns"], abs=2.5e9)
    assert longest["posted"]["eth1"] == 0
    posted = found.queues.set_index("device")["posted_min"]
    assert posted["eth1"] == 0 and posted["eth2"] > 0
    agreement = found.agreement
    assert agreement and agreement["agrees"] and agreement["stalls_compared"] >= 1, agreement
    # What is not declared is not known.
    assert found.queues[["refills", "irqs"]].isna().to_numpy().all()
