# SPDX-License-Identifier: GPL-2.0-only
"""NICs whose drivers have no probes of their own, on a real kernel: stalls are found, and what is lost."""

import re
import shlex
import time
from pathlib import Path

import pytest

import toolkit
from tests.machine.harness.lab import Lab, failed, fetch
from tests.machine.harness.namespaces import in_namespace_of_its_own
from tests.machine.harness.nics import starve
from tests.machine.test_virtio_net import received
from vm import guest, trial


@pytest.mark.machine("nics")
def test_a_deaf_nic_and_one_that_drops_are_told_apart(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    """e1000e (eth1) is deaf until its watchdog looks; vmxnet3 (eth2) keeps its buffers and drops frames."""
    found, longest, length = starve(lab, machine, tmp_path)
    (driver,) = found.meta["drivers"]
    assert (driver["name"], driver["module"]) == ("generic", "e1000e, vmxnet3")
    assert longest["state"].to_dict() == {"eth1": "no-work", "eth2": "dropping"}
    assert (longest["order"] == 0).all() and not longest["open"].any()
    # As long as memory is kept back; and e1000e until its watchdog comes, every 2 s.
    assert longest["duration_ns"]["eth1"] == pytest.approx(length, abs=2.5e9)
    assert longest["duration_ns"]["eth2"] == pytest.approx(length, rel=0.5)
    agreement = found.agreement
    assert agreement and agreement["agrees"] and agreement["stalls_compared"] >= 1, agreement
    # The NIC's own word on what was dropped.
    lost = found.analysis.scan.counters["eth2"]["drv dropped rx total"]
    failures = found.queues.set_index("device")["failed"]["eth2"]
    assert lost > 500
    assert failures == pytest.approx(lost, rel=0.2)
    # What these probes cannot know is not known.
    assert found.queues[["posted_min", "refills", "irqs"]].isna().to_numpy().all()
    assert longest[["reclaim_ns", "refills"]].isna().to_numpy().all()


@pytest.mark.machine("virtio-net")
def test_the_same_stall_by_a_drivers_own_probes_and_without(
    lab: Lab, machine: guest.Guest, tmp_path: Path
) -> None:
    lab.load(machine, "stock")
    there = "/var/tmp/generic.rxt"
    with trial.tracing(machine, "generic", there, options=["-d", "eth1", "--force"]):
        files = lab.trial(machine, tmp_path, "knob", "--hold", "2", traffic=trial.Traffic(), reached=failed)
    own, without = toolkit.read(files.trace), toolkit.read(fetch(machine, there, tmp_path / "generic.rxt"))
    deaf = own.stalls.nlargest(1, "duration_ns").iloc[0]
    mine = without.stalls[without.stalls["end_ns"] > deaf["start_ns"]].nlargest(1, "duration_ns").iloc[0]
    assert (deaf["state"], mine["state"]) == ("napi-off", "no-work")
    assert mine["duration_ns"] > 1e9
    # NAPI is off when napi_disable returns, and the state begins where it is entered: a late poll may come in
    # between.
    events = own.events
    taken = events["ts"][(events["packets"] > 0) & (events["ts"] < mine["end_ns"])].max()
    assert mine["start_ns"] == pytest.approx(max(deaf["start_ns"], taken), abs=60e6)
    assert mine["end_ns"] == pytest.approx(deaf["end_ns"], abs=60e6)
    assert mine["gfp_names"] == deaf["gfp_names"]


@pytest.mark.machine("nics")
def test_devices_of_one_index_in_two_namespaces_are_two(
    lab: Lab, machine: guest.Guest, tmp_path: Path
) -> None:
    """eth1 and eth2 are of two drivers; eth2 has eth1's index in another namespace, and the traffic."""
    with in_namespace_of_its_own(machine, "eth2", like="eth1"):
        files = lab.trial(
            machine,
            tmp_path,
            seconds=1,
            traffic=trial.Traffic(nic=1, rate=1500),
            options=["-d", "eth1", "-d", "blue/eth2"],
            alone=True,
        )
    # The sender does not know of the namespace: its file is not to be beside the trace.
    alone = files.trace.rename(tmp_path / "alone.rxt")
    packets = toolkit.read(alone).queues.groupby("device")["packets"].sum()
    assert packets["blue/eth2"] > 100
    assert packets.get("eth1", 0) == 0


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("nics", marks=pytest.mark.machine("nics")),
        pytest.param("nics-trixie", marks=[pytest.mark.machine("nics-trixie"), pytest.mark.slow]),
        pytest.param("nics-backports", marks=[pytest.mark.machine("nics-backports"), pytest.mark.slow]),
    ],
)
def test_packets_of_each_nic_that_qemu_has_are_all_counted(lab: Lab, kind: str, tmp_path: Path) -> None:
    machine = lab.boot(kind)
    devices = [f"eth{number + 1}" for number in range(len(machine.machine.nics))]
    options = [word for device in devices for word in ("-d", device)]
    before = {device: received(machine, device) for device in devices}
    there = "/var/tmp/each.rxt"
    with trial.tracing(machine, "", there, options=["--force", *options]):
        for number, nic in enumerate(devices):
            with trial.wire(machine, trial.Traffic(nic=number, rate=500), tmp_path / f"{nic}.json"):
                time.sleep(1)
        time.sleep(1)
    arrived = {device: received(machine, device) - count for device, count in before.items()}
    queues = toolkit.read(fetch(machine, there, tmp_path / "each.rxt")).queues
    assert queues.groupby("device")["packets"].sum().to_dict() == arrived
    assert min(arrived.values()) > 100


#: Queues of one device, each with a NAPI instance: more than the probes look at in one call.
VETH_QUEUES = 100

#: Has the kernel pass each frame of va on in an XDP program, until its input ends.
PASS = """
import sys
from vm.inside import xdp

with xdp.attached("va", "pass", xdp.busy(1)):
    print("on", flush=True)
    sys.stdin.read()
"""

#: Sends a frame from each of many ports, again and again: the kernel chooses a queue by the ports.
MANY_PORTS = """
import socket, time

senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(500)]
for turn in range(10):
    for number, sender in enumerate(senders):
        sender.sendto(b"frame", ("10.9.0.1", 9000 + number))
    time.sleep(0.1)
"""


@pytest.mark.machine("virtio-net")
def test_each_of_a_hundred_queues_is_one_of_its_own(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    """A veth has NAPI where it runs an XDP program, and counts for each queue what the program has seen."""
    lab.end_trace(machine)
    many = f"numrxqueues {VETH_QUEUES} numtxqueues {VETH_QUEUES}"
    here, green = "02:00:00:00:09:01", "02:00:00:00:09:02"
    steps = (
        "ip netns add green",
        f"ip link add va address {here} {many} type veth peer name vb address {green} {many} netns green",
        # No frames but those that are sent: no neighbour is asked for, before or after the trace.
        "sysctl -q net.ipv6.conf.va.disable_ipv6=1",
        "ip netns exec green sysctl -q net.ipv6.conf.vb.disable_ipv6=1",
        "ip addr add 10.9.0.1/24 dev va",
        "ip link set va up",
        "ip -n green addr add 10.9.0.2/24 dev vb",
        "ip -n green link set vb up",
        f"ip neigh add 10.9.0.2 lladdr {green} dev va nud permanent",
        f"ip -n green neigh add 10.9.0.1 lladdr {here} dev vb nud permanent",
    )
    machine.ssh(" && ".join(f"sudo {step}" for step in steps), check=True)
    there = "/var/tmp/veth.rxt"
    try:
        with machine.popen(f"{guest.PYTHON} -c {shlex.quote(PASS)}", stderr=None) as program:
            assert program.stdin and program.stdout
            assert program.stdout.readline() == "on\n"
            with trial.tracing(machine, "", there, options=["--force", "-d", "va"]):
                send = f"sudo ip netns exec green python3 -c {shlex.quote(MANY_PORTS)}"
                machine.ssh(send, check=True, timeout=120)
                time.sleep(1)
            said = machine.ssh("ethtool -S va", check=True).stdout
            program.stdin.close()
    finally:
        machine.ssh("sudo ip link del va; sudo ip netns del green")
    seen = {int(queue): int(count) for queue, count in re.findall(r"rx_queue_(\d+)_xdp_packets: (\d+)", said)}
    trace = toolkit.read(fetch(machine, there, tmp_path / "veth.rxt"))
    counted = trace.queues.set_index("queue")["packets"].to_dict()
    assert trace.meta["drivers"][0]["module"] == "veth"
    assert len(seen) == VETH_QUEUES and sum(count > 0 for count in seen.values()) > VETH_QUEUES / 2
    assert {queue: count for queue, count in counted.items() if count} == {
        queue: count for queue, count in seen.items() if count
    }
