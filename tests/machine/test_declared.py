# SPDX-License-Identifier: GPL-2.0-only
"""Drivers of which only the ring is declared, on a real kernel: what is posted, and when nothing is."""

from pathlib import Path

import pytest

from tests.machine.harness.lab import Lab
from tests.machine.harness.nics import starve
from vm import guest


@pytest.mark.machine("nics")
def test_declared_ring_is_empty_as_long_as_the_sender_is_refused(
    lab: Lab, machine: guest.Guest, tmp_path: Path
) -> None:
    """e1000e (eth1) runs out of buffers; vmxnet3 (eth2) keeps them and drops frames."""
    found, longest, length = starve(lab, machine, tmp_path, driver="")
    assert [driver["name"] for driver in found.meta["drivers"]] == ["e1000e", "vmxnet3"]
    assert longest[["driver", "state"]].to_numpy().tolist() == [
        ["e1000e", "starved"],
        ["vmxnet3", "dropping"],
    ]
    assert (longest["order"] == 0).all() and not longest["open"].any()
    # e1000e is deaf until its watchdog comes, every 2 s.
    assert longest["duration_ns"]["eth1"] == pytest.approx(length, abs=2.5e9)
    assert longest["posted"]["eth1"] == 0
    posted = found.queues.set_index("device")["posted_min"]
    assert posted["eth1"] == 0 and posted["eth2"] > 0
    agreement = found.agreement
    assert agreement and agreement["agrees"] and agreement["stalls_compared"] >= 1, agreement
    # What is not declared is not known.
    assert found.queues[["refills", "irqs"]].isna().to_numpy().all()
