# SPDX-License-Identifier: GPL-2.0-only
"""virtio_net on a real kernel: stalls that are there are found, on the right queue, and no others."""

import json
import os
import shlex
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import toolkit
from tests.machine.harness.lab import Lab, failed, recovered, result
from tests.machine.harness.namespaces import in_namespace_of_its_own
from toolkit.event import NOT_KNOWN, POSTED_KINDS
from toolkit.report import text
from toolkit.stalls.analysis import analyze
from toolkit.stalls.slow import UNPOLLED
from toolkit.stalls.ticks import IN_USER_SPACE
from vm import guest, outcomes, trial
from vm.demo import AGREE_NS, judge
from vm.wire import frames, steer

#: Prints a machine's CLOCK_MONOTONIC [ns], which traces are in.
NOW = "python3 -c 'import time; print(time.monotonic_ns())'"


def kinds(*names: str, slow: str = "") -> list[Any]:
    """Return parameters that are kinds of machines: each test runs in the group of its own.

    :param slow: one more, in `make test-all` only.
    """
    found = [pytest.param(name, marks=pytest.mark.machine(name)) for name in names]
    if slow:
        found.append(pytest.param(slow, marks=[pytest.mark.machine(slow), pytest.mark.slow]))
    return found


def received(machine: guest.Guest, device: str) -> int:
    """The NIC's own count of packets."""
    return int(json.loads(machine.ssh(f"ip -s -j link show {device}").stdout)[0]["stats64"]["rx"]["packets"])


@pytest.mark.parametrize(
    "kind", kinds("virtio-net", "virtio-net-small", "virtio-net-trixie", slow="virtio-net-arm64")
)
def test_knob_makes_a_stall_that_the_sender_sees(lab: Lab, kind: str, tmp_path: Path) -> None:
    machine = lab.boot(kind)
    lab.load(machine, "stock")
    files = lab.trial(machine, tmp_path, "knob", traffic=trial.Traffic(), reached=recovered)
    analysis, found = result(files)
    assert judge(found) == []
    assert found["variant"] == "stock"
    longest = analysis.stalls.sort_values("duration_ns").iloc[-1]
    assert (longest["device"], longest["queue"]) == ("eth1", 0)
    # Before the worker runs the ring may run dry: then the same time is in two states.
    assert longest["napi_off_ns"] > 0.9 * longest["duration_ns"]
    assert not longest["open"]
    assert longest["order"] == 0
    assert longest["gfp_names"] == "GFP_ATOMIC"
    # It lasts for most of the time in which memory is kept back; reclaim may go on after it.
    hold = next(p for p in json.loads(files.phases.read_text())["phases"] if p["name"] == "hold")
    began, ended = max(longest["start_ns"], hold["start_ns"]), min(longest["end_ns"], hold["end_ns"])
    assert ended - began > 0.4 * (hold["end_ns"] - hold["start_ns"])
    # The worker's time is accounted for, and reclaim is most of it.
    parts = longest[["reclaim_ns", "refill_ns", "waiting_ns"]].sum()
    assert parts == pytest.approx(longest["duration_ns"], rel=0.01)
    assert longest["reclaim_ns"] > longest["duration_ns"] / 2


@pytest.mark.machine("virtio-net-backports")
def test_driver_without_a_worker_spins(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    lab.load(machine, "stock")
    scenario, traffic = ("knob", "--hold", "2", "--buffer", "4"), trial.Traffic(rate=4000)
    files = lab.trial(machine, tmp_path, *scenario, traffic=traffic, alone=True, reached=failed)
    analysis, found = result(files)
    assert found["regime"] == "NAPI repoll"
    # Whether its ring runs dry meanwhile is chance: without a worker NAPI is on in any case.
    (queue,) = analysis.queues.to_dict("records")
    assert queue["failed"] > 1000 and queue["full_polls"] > 1000 and queue["workers"] == 0
    assert outcomes.of_trace(files.trace) == {"spin"}
    # A poll that claims its whole budget has not taken it.
    assert queue["packets"] == json.loads(files.witness.read_text())["sent"]
    assert "napi-off" not in set(analysis.stalls["state"])
    assert found["witness"]["agrees"], found["witness"]["sentence"]


@pytest.mark.machine("virtio-net-backports")
def test_driver_with_a_timer_does_not_spin(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    lab.load(machine, "timer")
    scenario, traffic = ("knob", "--hold", "2", "--buffer", "4"), trial.Traffic(rate=4000)
    files = lab.trial(machine, tmp_path, *scenario, traffic=traffic, alone=True, reached=failed)
    analysis, found = result(files)
    assert found["variant"] == "timer"
    (queue,) = analysis.queues.to_dict("records")
    # Refills fail with the timer's ticks, and with packets that come, and not as fast as the CPU can.
    assert queue["failed"] < 5000
    assert outcomes.of_trace(files.trace) == set()
    assert not analysis.stalls["open"].any()
    assert queue["packets"] == json.loads(files.witness.read_text())["sent"]
    assert found["witness"]["agrees"], found["witness"]["sentence"]


@pytest.mark.machine("virtio-net")
def test_idle_machine_has_no_stall(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    lab.load(machine, "stock")
    files = lab.trial(machine, tmp_path, seconds=5)
    analysis = analyze(files.trace)
    assert analysis.damage is None
    assert analysis.stalls.empty


@pytest.mark.machine("virtio-net")
def test_busy_machine_has_no_stall_and_its_packets_are_all_counted(
    lab: Lab, machine: guest.Guest, tmp_path: Path
) -> None:
    lab.load(machine, "stock")
    before = received(machine, "eth1")
    files = lab.trial(machine, tmp_path, seconds=5, traffic=trial.Traffic(), alone=True)
    analysis, _ = result(files)
    assert analysis.stalls.empty
    packets = int(analysis.queues["packets"].sum())
    assert packets == json.loads(files.witness.read_text())["sent"] > 0
    assert packets == received(machine, "eth1") - before


#: Receives datagrams, and polls the NIC itself while it waits for them, until its input ends.
BUSY_POLLING = """
import socket, sys, threading

so_busy_poll, microseconds = 46, 20000
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.setsockopt(socket.SOL_SOCKET, so_busy_poll, microseconds)
receiver.bind(("", 9000))

def receive():
    while True:
        receiver.recv(2048)

threading.Thread(target=receive, daemon=True).start()
print("receiving", flush=True)
sys.stdin.read()
"""


@pytest.mark.machine("virtio-net")
def test_packets_that_a_waiting_thread_polls_are_all_counted(
    lab: Lab, machine: guest.Guest, tmp_path: Path
) -> None:
    def polled_by_threads() -> int:
        return int(machine.ssh("nstat -asz TcpExtBusyPollRxPackets", check=True).stdout.split()[-2])

    lab.load(machine, "stock")
    before, polled = received(machine, "eth1"), polled_by_threads()
    address = f"{frames.DESTINATION}/24 dev eth1"
    machine.ssh(f"sudo ip address add {address}", check=True)
    try:
        with machine.popen(f"{guest.PYTHON} -c {shlex.quote(BUSY_POLLING)}", stderr=None) as receiver:
            assert receiver.stdin and receiver.stdout
            assert receiver.stdout.readline() == "receiving\n"
            traffic = trial.Traffic(rate=1000, ports="9000")
            files = lab.trial(machine, tmp_path, seconds=3, traffic=traffic, alone=True)
            receiver.stdin.close()
    finally:
        machine.ssh(f"sudo ip address del {address}", check=True)
    assert polled_by_threads() - polled > 100
    analysis, _ = result(files)
    assert analysis.stalls.empty
    assert int(analysis.queues["packets"].sum()) == received(machine, "eth1") - before


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.machine("virtio-net")
def test_a_healthy_machine_has_no_silence_that_its_sender_did_not_see(
    lab: Lab, machine: guest.Guest, tmp_path: Path
) -> None:
    """Ten minutes idle, and ten minutes busy. While the sender itself does not run, it can see nothing."""
    lab.load(machine, "stock")
    idle = analyze(lab.trial(machine, tmp_path / "idle", seconds=600).trace)
    assert idle.damage is None and idle.stalls.empty and idle.silences.empty
    _, found = result(lab.trial(machine, tmp_path / "busy", seconds=600, traffic=trial.Traffic(), alone=True))
    print(found["witness"]["sentence"], found["witness"]["silences_compared"])
    assert found["stalls"] == []
    assert found["witness"]["away_ns"] < 300_000_000_000, "the host was too busy to look"
    assert found["witness"]["agrees"], found["witness"]["sentence"]
    assert found["witness"]["silences_without_gap"] == []


@pytest.mark.machine("virtio-net")
def test_full_detail_sends_every_poll(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    lab.load(machine, "stock")
    before = received(machine, "eth1")
    traffic = trial.Traffic(rate=2000)
    files = lab.trial(machine, tmp_path, seconds=3, traffic=traffic, options=["--detail", "full"])
    analysis, _ = result(files)
    polls = analysis.queues["polls"].sum()
    # Each is an event of its own.
    assert polls == (toolkit.read(files.trace).events["kind"] == "poll").sum() > 0
    assert analysis.queues["packets"].sum() == received(machine, "eth1") - before


@pytest.mark.machine("virtio-net")
def test_posted_follows_the_size_of_the_ring(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    lab.load(machine, "stock")
    moments: list[int] = []

    def change() -> None:
        with trial.wire(machine, trial.Traffic(rate=500), tmp_path / "while.json"):
            for size in (64, 256):
                around = machine.ssh(f"{NOW} && sudo ethtool -G eth1 rx {size} && {NOW}", check=True)
                moments.extend(map(int, around.stdout.split()))
                time.sleep(2)

    files = lab.trial(machine, tmp_path, seconds=1, traffic=trial.Traffic(rate=500), then=change)
    events = toolkit.read(files.trace).events
    counted = events[events["kind"].isin(POSTED_KINDS) & (events["posted_after"] != NOT_KNOWN)]
    most = counted.groupby(np.searchsorted(moments, counted["ts"].to_numpy()))["posted_after"].max()
    # Before it is filled up again, what a few polls took is missing.
    assert 64 < most[0] <= 256 and 32 < most[2] <= 64 < most[4] <= 256
    assert analyze(files.trace).stalls.query("state == 'starved'").empty


@pytest.mark.machine("virtio-net-2nics")
def test_stall_is_on_the_right_one_of_two_nics(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    files = lab.trial(machine, tmp_path, "knob", traffic=trial.Traffic(nic=1), reached=failed)
    analysis, found = result(files)
    assert judge(found) == []
    assert set(analysis.stalls["device"]) == {"eth2"}
    packets = analysis.queues.set_index("device")["packets"]
    assert packets["eth2"] > 0.9 * found["witness"]["sent"] > 0
    assert packets.get("eth1", 0) == 0


@pytest.mark.machine("virtio-net-2nics")
def test_devices_of_one_index_in_two_namespaces_are_two(
    lab: Lab, machine: guest.Guest, tmp_path: Path
) -> None:
    """eth2 has eth1's index in another namespace."""
    lab.end_trace(machine)
    with in_namespace_of_its_own(machine, "eth2", like="eth1"):
        for options, names in (
            ((), ["blue/eth2", "eth1"]),
            (("-d", "eth1"), ["eth1"]),
            (("-d", "blue/eth2"), ["blue/eth2", "eth1"]),
        ):
            files = lab.trial(
                machine, tmp_path / "-".join(names), seconds=1, traffic=trial.Traffic(nic=1), options=options
            )
            packets = analyze(files.trace).queues.set_index("device")["packets"].to_dict()
            assert set(packets) == set(names)
            assert packets["eth1"] == 0
            assert packets.get("blue/eth2", 9999) > 100
        lab.end_trace(machine)


@pytest.mark.machine("virtio-net")
def test_a_device_that_comes_back_is_known_by_name(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    lab.load(machine, "stock")
    bus = machine.ssh("basename $(readlink /sys/class/net/eth1/device)", check=True).stdout.strip()
    driver = "/sys/bus/virtio/drivers/virtio_net"
    times = 4

    def rebind() -> None:
        again = f"echo {bus} >{driver}/unbind && echo {bus} >{driver}/bind && sleep 1 && rx-stall-nic eth1"
        for _ in range(times):
            machine.ssh(f"sudo sh -c '{again}'", check=True)
        with trial.wire(machine, trial.Traffic(), tmp_path / "after.json"):
            time.sleep(1)

    analysis = analyze(lab.trial(machine, tmp_path, seconds=1, then=rebind).trace)
    assert set(analysis.queues["device"]) == {"eth1"}
    queue = analysis.queues.sort_values("packets").iloc[-1]
    assert queue["packets"] > 100
    assert queue["size"] == 256
    # Its ring was empty whenever it came, also where its queue had the address of a former one.
    assert (analysis.queues["posted_min"] == 0).sum() == times


@pytest.mark.machine("virtio-net-mq")
def test_stall_is_on_the_right_one_of_two_queues(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    ports = steer.ports_by_queue(machine, 0, range(9000, 9016))[1]
    traffic = trial.Traffic(ports=",".join(map(str, ports)))
    files = lab.trial(machine, tmp_path, "knob", traffic=traffic, reached=failed)
    analysis, found = result(files)
    assert found["ledger"]["dropped"] == 0
    by_length = analysis.stalls.sort_values("duration_ns")
    busy = by_length[by_length["queue"] == 1].iloc[-1]
    assert busy["duration_ns"] > 500_000_000
    assert found["witness"]["agrees"], found["witness"]["sentence"]
    assert found["witness"]["largest_difference_ns"] <= AGREE_NS
    queues = analysis.queues.set_index("queue")
    assert queues["failed"].get(0, 0) == 0
    assert queues["failed"][1] >= 1
    assert queues["packets"].get(0, 0) == 0
    assert queues["packets"][1] > 0.9 * found["witness"]["sent"] > 0
    # The one worker turns NAPI off on the idle queue too, and may wait for memory there first.
    idle = by_length[by_length["queue"] == 0]
    assert (idle["cause_queue"] == 1).all()


@pytest.mark.machine("virtio-net-2nics")
def test_filter_by_device_and_queue(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    options = ["-d", "eth1", "-q", "0"]
    files = lab.trial(machine, tmp_path, seconds=3, traffic=trial.Traffic(nic=1), options=options)
    # The looks at the queue that was asked for, and nothing of the NIC that has the traffic.
    events = toolkit.read(files.trace).events
    assert set(events["device"]) == {"eth1"} and set(events["kind"]) <= {"look", "tick"}


@pytest.mark.slow
@pytest.mark.parametrize("run", [1, 2, 3])
@pytest.mark.parametrize("kind", kinds("virtio-net", "virtio-net-small"))
def test_pressure_makes_a_genuine_stall(lab: Lab, kind: str, run: int, tmp_path: Path) -> None:
    machine = lab.boot(kind)
    lab.load(machine, "stock")
    files = lab.trial(machine, tmp_path, "pressure", traffic=trial.Traffic(), reached=failed)
    analysis, found = result(files)
    assert found["ledger"]["dropped"] == 0
    long = analysis.stalls[analysis.stalls["duration_ns"] >= 100_000_000]
    assert len(long) >= 1, f"run {run}: {analysis.stalls.to_string()}"
    assert long["witness_gap_ns"].notna().all(), found["witness"]["sentence"]


@pytest.mark.machine("virtio-net")
def test_cpus_that_do_not_run_are_told(lab: Lab, tmp_path: Path) -> None:
    """The host stops all of the machine for half a second: no clock ticks there, and time goes on."""
    machine = lab.boot("virtio-net")
    lab.load(machine, "stock")

    def stop() -> None:
        os.kill(machine.pid, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(machine.pid, signal.SIGCONT)
        # The tick that comes late is in this trace, not in the next.
        time.sleep(1)

    files = lab.trial(machine, tmp_path, seconds=1, traffic=trial.Traffic(), then=stop)
    analysis, _ = result(files)
    longest = analysis.no_ticks["duration_ns"].max()
    assert 400_000_000 < longest < 1_500_000_000, analysis.no_ticks.to_string()
    assert analysis.stalls.empty
    assert "interrupts were off, or a virtual CPU did not run" in text.verdict(analysis)


@pytest.mark.parametrize("options", [(), ("--softirqs",)], ids=["thread", "softirqs"])
@pytest.mark.machine("virtio-net")
def test_a_poll_that_waits_for_its_cpu_is_told(lab: Lab, options: tuple[str, ...], tmp_path: Path) -> None:
    """A real-time thread takes for two seconds the CPU that NAPI's thread, or ksoftirqd, is bound to."""
    machine = lab.boot("virtio-net")
    lab.load(machine, "stock")
    files = lab.trial(machine, tmp_path, "hog", *options, traffic=trial.Traffic())
    analysis, found = result(files)
    (hog,) = (phase for phase in json.loads(files.phases.read_text())["phases"] if phase["name"] == "hog")
    waited = analysis.silences[analysis.silences["state"] == UNPOLLED]
    longest = waited.nlargest(1, "duration_ns").iloc[0]
    assert (longest["device"], longest["queue"]) == ("eth1", 0)
    assert longest["duration_ns"] > 1_500_000_000
    assert longest["start_ns"] < hog["end_ns"] and longest["end_ns"] > hog["start_ns"]
    assert longest["thread"] == "hog"
    # A clock ticks 49 times a second, and there it finds what has the CPU.
    ticks = analysis.ticks[analysis.ticks["state"] == UNPOLLED]
    hogs = ticks["count"][(ticks["thread"] == "hog") & (ticks["function"] == IN_USER_SPACE)].sum()
    assert hogs > ticks["count"].sum() / 2 > 30, ticks.to_string()
    # No refill failed, so nothing of this is a stall; the sender saw its frames refused meanwhile.
    assert analysis.stalls.empty
    assert found["witness"]["in_silences_ns"][UNPOLLED] > 1_000_000_000
    assert found["witness"]["agrees"], found["witness"]["sentence"]
