# SPDX-License-Identifier: GPL-2.0-only
"""xen-netback in a real dom0: what its guest does not take, and what netback itself says of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import toolkit
from tests.machine.harness.lab import Lab, result
from toolkit import drivers
from toolkit.stalls.analysis import Analysis
from vm import guest, outcomes
from vm.inside import xen

DEVICE = xen.Guest(1).device
#: So long before the end of its hold, `unfilled` looks at the ring.
LOOKED_NS = 500_000_000

#: With the QEMU that runs the machines none has died of it; each takes some ten seconds in an emulated dom0.
CYCLES = 6
#: So many events must come while the probes are on, within so many seconds.
EVENTS, SECONDS = 100, 60
#: Puts all probes on and takes them off, again and again; says each time how many events there were.
ON_AND_OFF = f"""
CYCLES = {CYCLES}
import time
from toolkit.capture import loader, maps, program, start
from toolkit.capture.ring import ledger
from toolkit.drivers import load

drivers = [load("xen_netback")]
bpf, functions = start.load(drivers, 1 << 20, full=True)
counts = ledger(bpf["ledger"].map_fd, program.cpus(), len(bpf["ledger"]) // program.cpus())
for _ in range(CYCLES):
    before = int(counts["attempted"].sum())
    program.attach(bpf, program.hooks(drivers), functions)
    maps.arm(bpf, True)
    deadline = time.monotonic() + {SECONDS}
    while counts["attempted"].sum() - before < {EVENTS} and time.monotonic() < deadline:
        time.sleep(0.1)
    maps.arm(bpf, False)
    loader.detach(bpf)
    print(int(counts["attempted"].sum()) - before, flush=True)
"""


pytestmark = pytest.mark.machine("xen")


def load(lab: Lab, machine: guest.Guest, variant: str, *parameters: str) -> None:
    """Load a build of netback, with parameters of its own until the next."""
    lab.load(machine, ":".join([variant, *parameters]))


def run(
    lab: Lab, machine: guest.Guest, out: Path, *scenario: str, alone: bool = False
) -> tuple[Analysis, dict[str, Any], dict[str, Any]]:
    """Return what a trial's trace shows, its summary with the witness, and the witness's account."""
    files = lab.trial(machine, out, *scenario, alone=alone)
    return *result(files), json.loads(files.witness.read_text())


def phases(analysis: Analysis) -> list[dict[str, Any]]:
    """Return the phases of the scenario that ran during a trace."""
    found: list[dict[str, Any]] = json.loads((analysis.path.parent / "phases.json").read_text())["phases"]
    return found


def sent(machine: guest.Guest) -> int:
    """:return: packets that netback handed to the guest, by its own count."""
    return int(machine.ssh(f"cat /sys/class/net/{DEVICE}/statistics/tx_packets", check=True).stdout)


def moves(analysis: Analysis) -> list[str]:
    """:return: what netback did to the carrier, in order, in the words of its log."""
    words = {own.number: own.name for own in drivers.load("xen_netback").events}
    said = {"carrier_off": "stalled", "carrier_on": "ready"}
    rare = analysis.scan.rare
    kinds = rare["kind"][np.argsort(rare["ts"], kind="stable")].tolist()
    return [said[words[kind]] for kind in kinds if kind in words]


def test_the_guest_is_served_by_debians_own_driver(machine: guest.Guest) -> None:
    facts = machine.ssh(
        f"readlink -f /sys/class/net/{DEVICE}/device/driver/module; modinfo -F intree xen_netback; "
        "cat /sys/hypervisor/type; nproc",
        check=True,
    ).stdout.split()
    assert facts == ["/sys/module/xen_netback", "Y", "xen", "1"]
    done = machine.ssh(f"ping -c 5 -i 0.2 -W 5 {xen.Guest(1).address}")
    assert " 0% packet loss" in done.stdout, done.stdout + done.stderr


def test_xen_netback_is_fully_observable(machine: guest.Guest) -> None:
    done = machine.ssh("sudo toolkit doctor xen_netback")
    assert done.returncode == 0, done.stdout
    assert "xen_netback: fully observable" in done.stdout, done.stdout
    assert f"{DEVICE} (1 queues)" in done.stdout


def test_a_large_copy_to_stock(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    load(lab, machine, "stock")
    before = sent(machine)
    scenario = ("bulk", "--duration", "8", "--after", "3")
    analysis, found, account = run(lab, machine, tmp_path, *scenario, alone=True)
    assert (found["variant"], found["regime"]) == ("stock", "woken by room in the queue")
    assert not analysis.stalls["open"].any()
    # Five times what the unfixed build moves before it stops for ever.
    assert account["bytes"] > 5_000_000
    assert not account["ring"]["stopped"]
    assert analysis.queues["packets"].sum() == sent(machine) - before
    assert found["witness"]["agrees"], found["witness"]["sentence"]


def test_a_paused_guest_is_one_stall_whatever_netback_says(
    lab: Lab, machine: guest.Guest, tmp_path: Path
) -> None:
    # Sooner than usual, so that netback changes its mind within 40 s.
    load(lab, machine, "stock", "rx_stall_timeout_msecs=15000", "rx_drain_timeout_msecs=5000")
    analysis, found, account = run(lab, machine, tmp_path, "paused", "--pause", "40", "--after", "5")
    (stall,) = analysis.stalls[analysis.stalls["duration_ns"] > 1_000_000_000].to_dict("records")
    assert (stall["state"], stall["open"]) == ("blocked", False)
    # From when netback's own account has no slot left; Xen's tools take a second or two to go on.
    paused = next(phase for phase in phases(analysis) if phase["name"] == "paused")
    assert abs(stall["start_ns"] - account["used_up_ns"]) < 1_000_000_000
    assert stall["end_ns"] < paused["end_ns"] + 1_000_000_000
    assert stall["duration_ns"] > 39_000_000_000
    assert account["ring_paused"]["free"] == stall["posted"] == 0
    assert found["witness"]["agrees"], found["witness"]["sentence"]
    # It was ready long before the guest was.
    assert moves(analysis) == account["log"]
    assert account["log"][:2] == ["stalled", "ready"]
    assert len(analysis.tables["flaps"]) == account["log"].count("stalled")
    assert analysis.tables["flaps"]["after_ns"].iloc[0] > 5_000_000_000
    assert outcomes.flaps(analysis) == {"flaps"}


def test_a_paused_guest_is_not_called_ready_by_patched(
    lab: Lab, machine: guest.Guest, tmp_path: Path
) -> None:
    load(lab, machine, "patched", "rx_stall_timeout_msecs=15000", "rx_drain_timeout_msecs=5000")
    analysis, found, account = run(lab, machine, tmp_path, "paused", "--pause", "40", "--after", "5")
    assert found["variant"] == "patched"
    paused = next(phase for phase in phases(analysis) if phase["name"] == "paused")
    # Netback says so when the guest goes on, and once.
    assert moves(analysis) == account["log"] == ["stalled", "ready"]
    (flap,) = analysis.tables["flaps"].to_dict("records")
    assert flap["begin_ns"] < paused["end_ns"] < flap["end_ns"] < paused["end_ns"] + 2_000_000_000
    assert outcomes.flaps(analysis) == set()
    assert account["ring"]["free"] > 200
    assert found["witness"]["agrees"], found["witness"]["sentence"]


@pytest.mark.parametrize("hold", [4, pytest.param(15, marks=pytest.mark.slow)])
def test_a_guest_that_cannot_fill_its_ring(lab: Lab, machine: guest.Guest, tmp_path: Path, hold: int) -> None:
    # What waits for 10 s is thrown away, and if slots are left, smaller packets get through: two stalls.
    load(lab, machine, "stock")
    analysis, found, account = run(lab, machine, tmp_path, "unfilled", "--hold", str(hold), "--after", "5")
    long = analysis.stalls[analysis.stalls["duration_ns"] > 1_000_000_000]
    assert set(long["state"]) == {"blocked"} and not long["open"].any()
    assert len(long) == sum(gap["duration_ns"] > 1_000_000_000 for gap in account["gaps"])
    (short,) = [phase for phase in phases(analysis) if phase["shortage"]]
    # From when netback's own account has too few slots: how soon that is depends on the host.
    expected = short["end_ns"] - account["used_up_ns"]
    assert abs(long["duration_ns"].sum() - expected) < 1_000_000_000
    assert found["witness"]["agrees"], found["witness"]["sentence"]
    assert account["ring"] == {"free": 256, "queued": 0, "stopped": False}


def test_a_guest_whose_memory_is_full(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    load(lab, machine, "stock")
    # After 10 s netback would throw away what waits.
    analysis, found, account = run(
        lab, machine, tmp_path, "unfilled", "--full", "--hold", "10", "--after", "5"
    )
    longest = analysis.stalls.sort_values("duration_ns").iloc[-1]
    assert (longest["state"], bool(longest["open"])) == ("blocked", False)
    # It begins when netback's own account has too few slots: how soon that is depends on the host.
    assert abs(longest["start_ns"] - account["used_up_ns"]) < 1_000_000_000
    assert longest["duration_ns"] > 3_000_000_000
    # It ends when memory is free: with the next of the frontend's own attempts.
    (hold,) = [phase for phase in phases(analysis) if phase["shortage"]]
    assert abs(longest["end_ns"] - hold["end_ns"]) < 1_000_000_000
    # Fewer than a packet may need, and as many as netback itself shows.
    events = toolkit.read(analysis.path).events
    said = events[(events["device"] == DEVICE) & (events["ts"] < hold["end_ns"] - LOOKED_NS)]
    assert account["ring_hold"]["free"] == said["posted_after"].iloc[-1] < xen.MOST_SLOTS
    assert account["ring"] == {"free": 256, "queued": 0, "stopped": False}
    assert found["witness"]["agrees"], found["witness"]["sentence"]


def test_unfixed_stays_stopped_with_a_ring_full_of_slots(
    lab: Lab, machine: guest.Guest, tmp_path: Path
) -> None:
    load(lab, machine, "unfixed")
    analysis, found, account = run(lab, machine, tmp_path, "bulk", "--duration", "15", "--after", "3")
    assert (found["variant"], found["regime"]) == ("unfixed", "woken by a prediction of slots")
    last = analysis.stalls.iloc[-1]
    assert (last["state"], bool(last["open"])) == ("blocked", True)
    assert last["duration_ns"] > 5_000_000_000
    assert last["cause"] == "stopped"
    # Netback's own account: stopped, with slots for any packet, and its detector saw nothing.
    assert account["ring"]["stopped"] and account["ring"]["queued"] == 0
    assert account["ring"]["free"] > 200
    assert account["log"] == moves(analysis) == []
    assert found["witness"]["agrees"], found["witness"]["sentence"]
    assert any(gap.get("open") for gap in account["gaps"])
    # Who begins to trace now finds a queue to which nothing happens any more.
    later = toolkit.read(lab.trial(machine, tmp_path / "later", seconds=4, alone=True).trace)
    (stall,) = later.stalls.to_dict("records")
    assert (stall["device"], stall["state"], stall["open"]) == (DEVICE, "blocked", True)
    assert stall["cause"] == "before_trace"
    assert stall["duration_ns"] > 3_000_000_000


@pytest.mark.slow
def test_a_copy_from_guest_to_guest(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    """The commit's own words."""
    # Not the one whose queue another test has left stopped.
    lab.reload(machine, "unfixed")
    machine.module("vm.xen start 2")
    analysis, found, account = run(lab, machine, tmp_path, "bulk", "--sender", "2", "--after", "3")
    stalls = analysis.stalls[analysis.stalls["device"] == DEVICE]
    assert (stalls["state"].iloc[-1], bool(stalls["open"].iloc[-1])) == ("blocked", True)
    assert account["ring"]["stopped"] and account["ring"]["free"] > 200
    assert found["witness"]["agrees"], found["witness"]["sentence"]
    # What the second sent lies in the first's stopped queue: its own interface cannot go before that.
    for words in ("stop 1", "stop 2", "start 1"):
        machine.module(f"vm.xen {words}")


# It is about the emulated CPU, which once died of it; the other tests put probes on and off, too.
@pytest.mark.slow
def test_probes_go_on_and_off_under_traffic(lab: Lab, machine: guest.Guest) -> None:
    load(lab, machine, "stock")
    lab.end_trace(machine)
    with machine.popen(f"{guest.PYTHON} -m vm.xen.echo 1 --rate 300 -o /var/tmp/echo.json") as traffic:
        assert traffic.stdout is not None
        assert traffic.stdout.readline().startswith("sending")
        events = machine.ssh(f"{guest.PYTHON} -", check=True, stdin=ON_AND_OFF, timeout=600).stdout.split()
        machine.ssh("sudo pkill -INT -f '[v]m.xen.echo'", check=True)
        traffic.communicate(timeout=60)
    assert len(events) == CYCLES
    assert all(int(each) >= EVENTS for each in events), events
    account = json.loads(machine.ssh("cat /var/tmp/echo.json", check=True).stdout)
    assert account["sent"] > 1000
    assert not any(gap.get("open") for gap in account["gaps"])
