# SPDX-License-Identifier: GPL-2.0-only
"""Drivers of which only the ring is declared, on a real kernel: what is posted, and when nothing is."""

from pathlib import Path

import pandas as pd
import pytest

import toolkit
from tests.machine.harness.lab import Lab
from tests.machine.harness.nics import starve
from tests.machine.test_virtio_net import received
from toolkit.traces import Trace
from vm import guest, trial


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


@pytest.mark.machine("nics")
def test_a_nic_may_be_deaf_with_a_full_ring(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    """What fails of igb (eth3) is the skb of a frame: the frame stays in the ring, and all behind it."""
    short = ("--buffer", "64", "--keep", "--device", "eth3")
    found, longest, lost = _starved_alone(lab, machine, tmp_path, "eth3", 3000, *short)
    assert [driver["name"] for driver in found.meta["drivers"]] == ["igb"]
    assert (longest["state"], longest["order"], longest["open"]) == ("no-work", 0, False)
    queue = found.queues.nlargest(1, "packets").iloc[0]
    assert queue["posted_min"] > 0
    # The model drops frames that it has no place for: the sender knows only how many were sent.
    assert lost > 1000
    # The driver counts each skb for which there was no memory; the kernel may have tried two orders for it.
    counted = found.analysis.scan.counters["eth3"]
    assert (
        0 < sum(count for name, count in counted.items() if name.endswith("alloc_failed")) <= queue["failed"]
    )


@pytest.mark.slow
@pytest.mark.machine("nics")
def test_a_ring_is_known_from_its_napi_instance(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    """tulip (eth7) has no buffer left until its timer finds memory again, some ms after the shortage."""
    rate = 150
    found, longest, lost = _starved_alone(lab, machine, tmp_path, "eth7", rate)
    assert [driver["name"] for driver in found.meta["drivers"]] == ["tulip"]
    assert (longest["state"], longest["posted"], longest["open"]) == ("starved", 0, False)
    assert found.queues.nlargest(1, "packets").iloc[0]["posted_min"] == 0
    # What came while nothing was posted did not get to the kernel.
    assert lost == pytest.approx(rate * longest["duration_ns"] / 1e9, rel=0.2)


def _starved_alone(
    lab: Lab, machine: guest.Guest, out: Path, device: str, rate: int, *short: str
) -> tuple[Trace, pd.Series, int]:
    """Keep memory back for 4 s while one NIC receives, which is traced alone.

    :param rate: frames a second.
    :param short: more options of the scenario.
    :return: the trace with its witness, its longest stall, and how many frames were sent that did not arrive.
    """
    before = received(machine, device)
    files = lab.trial(
        machine,
        out,
        *("knob", "--hold", "4", *short),
        traffic=trial.Traffic(nic=int(device.removeprefix("eth")) - 1, rate=rate),
        options=["-d", device],
        driver="",
        alone=True,
        reached=lambda analysis: bool((analysis.stalls["duration_ns"] > 1e9).any()),
    )
    found = toolkit.read(files.trace, files.witness, files.phases)
    witness = found.witness
    assert witness and witness.sent is not None
    lost = witness.sent - (received(machine, device) - before)
    return found, found.stalls.nlargest(1, "duration_ns").iloc[0], lost
