# SPDX-License-Identifier: GPL-2.0-only
"""virtio_net on a real kernel: stalls that are there are found, on the right queue, and no others."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.machine.conftest import Boot
from toolkit.stalls.analysis import Analysis, analyze, summary
from toolkit.stalls.witness import compare, read_witness
from vm import guest, trial
from vm.demo import AGREE_NS, judge
from vm.wire import steer


def result(files: trial.Files) -> tuple[Analysis, dict[str, Any]]:
    """The analysis of a trial with its witness, and its summary."""
    analysis, witness = compare(analyze(files.trace), read_witness(files.witness))
    found = summary(analysis)
    found["witness"] = witness
    assert found["complete"], found["damage"]
    assert found["ledger"]["attempted"] == found["ledger"]["delivered"], found["ledger"]
    return analysis, found


def received(machine: guest.Guest, device: str) -> int:
    """The NIC's own count of packets."""
    return int(json.loads(machine.ssh(f"ip -s -j link show {device}").stdout)[0]["stats64"]["rx"]["packets"])


@pytest.mark.parametrize("kind", ["virtio-net", "virtio-net-small"])
def test_knob_makes_a_stall_that_the_sender_sees(boot: Boot, kind: str, tmp_path: Path) -> None:
    files = trial.run(boot(kind), "virtio_net", tmp_path, scenario=["knob"], traffic=trial.Traffic())
    analysis, found = result(files)
    assert judge(found) == []
    assert found["variant"] == "stock"
    longest = analysis.stalls.sort_values("duration_ns").iloc[-1]
    assert (longest["device"], longest["queue"], longest["state"]) == ("eth1", 0, "napi-off")
    assert not longest["open"]
    assert longest["order"] == 0
    assert longest["gfp_names"] == "GFP_ATOMIC"
    # It lasts as long as memory is kept back.
    hold = next(p for p in json.loads(files.phases.read_text())["phases"] if p["name"] == "hold")
    assert longest["duration_ns"] == pytest.approx(hold["end_ns"] - hold["start_ns"], rel=0.6)
    assert longest["start_ns"] < hold["end_ns"]
    assert longest["start_ns"] + longest["duration_ns"] > hold["start_ns"]
    # The worker's time is accounted for, and reclaim is most of it.
    parts = longest[["reclaim_ns", "refill_ns", "waiting_ns"]].sum()
    assert parts == pytest.approx(longest["duration_ns"], rel=0.01)
    assert longest["reclaim_ns"] > longest["duration_ns"] / 2


@pytest.mark.slow
def test_a_driver_without_a_worker_spins(boot: Boot, tmp_path: Path) -> None:
    scenario, traffic = ["knob", "--hold", "2", "--buffer", "4"], trial.Traffic(rate=4000)
    files = trial.run(
        boot("virtio-net-backports"), "virtio_net", tmp_path, scenario=scenario, traffic=traffic
    )
    analysis, found = result(files)
    assert found["regime"] == "NAPI repoll"
    # Whether its ring runs dry meanwhile is chance: without a worker NAPI is on in any case.
    (queue,) = analysis.queues.to_dict("records")
    assert queue["failed"] > 1000 and queue["full_polls"] > 1000 and queue["workers"] == 0
    assert "napi-off" not in set(analysis.stalls["state"])
    assert found["witness"]["agrees"], found["witness"]["sentence"]


def test_idle_machine_has_no_stall(machine: guest.Guest, tmp_path: Path) -> None:
    files = trial.run(machine, "virtio_net", tmp_path, seconds=8)
    analysis = analyze(files.trace)
    assert analysis.damage is None
    assert analysis.stalls.empty


def test_busy_machine_has_no_stall_and_its_packets_are_all_counted(
    machine: guest.Guest, tmp_path: Path
) -> None:
    before = received(machine, "eth1")
    files = trial.run(machine, "virtio_net", tmp_path, seconds=8, traffic=trial.Traffic())
    analysis, _ = result(files)
    assert analysis.stalls.empty
    packets = int(analysis.queues["packets"].sum())
    assert packets > 8 * 3000
    assert packets == received(machine, "eth1") - before


def test_full_detail_sends_every_poll(machine: guest.Guest, tmp_path: Path) -> None:
    before = received(machine, "eth1")
    files = trial.run(
        machine,
        "virtio_net",
        tmp_path,
        seconds=4,
        traffic=trial.Traffic(rate=2000),
        options=["--detail", "full"],
    )
    analysis, found = result(files)
    polls = analysis.queues["polls"].sum()
    assert found["events"] > polls > 1000
    assert analysis.queues["packets"].sum() == received(machine, "eth1") - before


def test_stall_is_on_the_right_one_of_two_nics(boot: Boot, tmp_path: Path) -> None:
    machine = boot("virtio-net-2nics")
    files = trial.run(machine, "virtio_net", tmp_path, scenario=["knob"], traffic=trial.Traffic(nic=1))
    analysis, found = result(files)
    assert judge(found) == []
    assert set(analysis.stalls["device"]) == {"eth2"}
    packets = analysis.queues.set_index("device")["packets"]
    assert packets["eth2"] > 10_000
    assert packets.get("eth1", 0) == 0


def test_stall_is_on_the_right_one_of_two_queues(boot: Boot, tmp_path: Path) -> None:
    machine = boot("virtio-net-mq")
    ports = steer.ports_by_queue(machine, 0, range(9000, 9016))[1]
    traffic = trial.Traffic(ports=",".join(map(str, ports)))
    files = trial.run(machine, "virtio_net", tmp_path, scenario=["knob"], traffic=traffic)
    analysis, found = result(files)
    assert found["ledger"]["dropped"] == 0
    by_length = analysis.stalls.sort_values("duration_ns")
    busy = by_length[by_length["queue"] == 1].iloc[-1]
    assert busy["duration_ns"] > 500_000_000
    assert abs(busy["witness_difference_ns"]) < AGREE_NS
    queues = analysis.queues.set_index("queue")
    assert queues["failed"].get(0, 0) == 0
    assert queues["failed"][1] >= 1
    assert queues["packets"].get(0, 0) == 0
    assert queues["packets"][1] > 10_000
    # The one worker turns NAPI off on the idle queue too, and may wait for memory there first.
    idle = by_length[by_length["queue"] == 0]
    assert idle["cause"].str.contains("refill of queue 1").all()


def test_filter_by_device_and_queue(boot: Boot, tmp_path: Path) -> None:
    machine = boot("virtio-net-2nics")
    files = trial.run(
        machine,
        "virtio_net",
        tmp_path,
        seconds=3,
        traffic=trial.Traffic(nic=1),
        options=["-d", "eth1", "-q", "0"],
    )
    assert summary(analyze(files.trace))["events"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "run"),
    [
        ("virtio-net", 1),
        ("virtio-net", 2),
        ("virtio-net", 3),
        ("virtio-net-small", 1),
        ("virtio-net-small", 2),
        ("virtio-net-small", 3),
    ],
)
def test_pressure_makes_a_genuine_stall(boot: Boot, kind: str, run: int, tmp_path: Path) -> None:
    files = trial.run(boot(kind), "virtio_net", tmp_path, scenario=["pressure"], traffic=trial.Traffic())
    analysis, found = result(files)
    assert found["ledger"]["dropped"] == 0
    long = analysis.stalls[analysis.stalls["duration_ns"] >= 100_000_000]
    assert len(long) >= 1, f"run {run}: {analysis.stalls.to_string()}"
    assert long["witness_gap_ns"].notna().all(), found["witness"]["sentence"]
