# SPDX-License-Identifier: GPL-2.0-only
"""`vagrant up`, with a libvirtd of its own: machines as in machines.yaml, which can trace."""

import base64
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.machine.harness.vagrant import NAME, UP_SECONDS, VIRSH, Vagrant, frames, vagrant
from toolkit.trace.reader import TraceReader
from vm import machines
from vm.inside import xen
from vm.paths import CHECKOUT
from vm.qemu import emulator

__all__ = ["vagrant"]
pytestmark = pytest.mark.machine("vagrant")


def test_up_trace_destroy(vagrant: Vagrant, tmp_path: Path) -> None:
    machine = machines.find(NAME)
    listed = vagrant.run("vagrant", "status", seconds=60)
    known = machines.load().values()
    # The others need what is not there: a box, a kernel or an emulator of their own, or a tap.
    own = {each.name for each in known if each.xen or each.kernel or each.config or each.foreign}
    simple = [each for each in known if each.name not in own and each.nics[0].queues == 1]
    assert all(each.name in listed for each in simple), listed
    vagrant.run("vagrant", "up", NAME, seconds=UP_SECONDS)

    facts = vagrant.facts()
    assert facts["drivers"] == [machine.management, machine.driver]
    assert facts["cpus"] == machine.cpus
    assert 0.85 < facts["memory"] / (machine.memory_mb << 20) <= 1
    assert set(machine.cmdline) <= set(facts["cmdline"])
    assert facts["marker"]
    assert machine.swap is not None
    assert facts["swap"] == [pytest.approx(machine.swap.gib << 20, rel=0.01)]
    domain = vagrant.run(*VIRSH, "list", "--name", seconds=20).strip()
    slow = vagrant.run(*VIRSH, "blkdeviotune", domain, "vdb", seconds=20)
    assert f"total_bytes_sec: {machine.swap.bytes_per_second}\n" in slow

    assert "virtio_net: fully observable" in vagrant.ssh("sudo toolkit doctor virtio_net")
    tracing = "echo $$ >/tmp/pid; exec toolkit trace virtio_net -o /tmp/x.rxt"
    vagrant.ssh(
        f"sudo setsid sh -c '{tracing}' >/tmp/said 2>&1 </dev/null & "
        "for i in $(seq 200); do grep -q ^tracing /tmp/said && exit; sleep 0.5; done; cat /tmp/said; exit 1"
    )
    with frames(vagrant):
        time.sleep(4)
    ended = "sudo kill -TERM $(cat /tmp/pid); while sudo kill -0 $(cat /tmp/pid); do sleep 0.5; done"
    encoded = vagrant.ssh(f"{{ {ended}; toolkit drivers; }} >&2 && sudo base64 /tmp/x.rxt")
    trace = tmp_path / "x.rxt"
    trace.write_bytes(base64.b64decode(encoded))
    reader = TraceReader(trace)
    packets = sum(int(batch.columns["packets"].sum()) for batch in reader)
    assert reader.damage is None
    assert packets > 1000

    vagrant.run("vagrant", "destroy", "--force", NAME, seconds=60)
    assert not vagrant.run(*VIRSH, "list", "--all", "--name", seconds=20).strip()
    assert not list((vagrant.work / "tmp").glob("*/*"))


@pytest.mark.slow
def test_up_with_a_nic_of_ours(vagrant: Vagrant) -> None:
    machine = machines.find("qlge")
    # There is no network where vagrant runs.
    emulator.ensure()
    vagrant.run("vagrant", "up", machine.name, seconds=UP_SECONDS)
    assert vagrant.facts(machine.name)["drivers"] == [machine.management, machine.driver]
    assert "qlge: fully observable" in vagrant.ssh("sudo toolkit doctor qlge", name=machine.name)
    vagrant.run("vagrant", "destroy", "--force", machine.name, seconds=60)
    assert not vagrant.run(*VIRSH, "list", "--all", "--name", seconds=20).strip()
    assert not list((vagrant.work / "tmp").glob("*/*"))


def _up_with_its_own_box(vagrant: Vagrant, machine: machines.Machine) -> None:
    words = [sys.executable, "-m", "vm", "box", machine.name]
    subprocess.run(words, cwd=CHECKOUT, env=vagrant.environment, check=True)
    vagrant.run("vagrant", "up", machine.name, seconds=UP_SECONDS)


@pytest.mark.slow
def test_up_with_a_disk_of_its_own(vagrant: Vagrant) -> None:
    machine = machines.find("aoe")
    _up_with_its_own_box(vagrant, machine)
    assert "aoe: fully observable" in vagrant.ssh("sudo toolkit doctor aoe", name=machine.name)
    read = "sudo dd if=/dev/etherd/e1.1 of=/dev/null iflag=direct bs=64k count=16 && echo read"
    assert "read" in vagrant.ssh(read, name=machine.name)
    vagrant.run("vagrant", "destroy", "--force", machine.name, seconds=60)
    assert not list((vagrant.work / "tmp").glob("*/*"))


@pytest.mark.slow
def test_up_of_a_xen_host(vagrant: Vagrant) -> None:
    machine = machines.find("xen")
    _up_with_its_own_box(vagrant, machine)
    facts = vagrant.ssh("cat /sys/hypervisor/type; nproc; cat /proc/cmdline", name=machine.name).split()
    assert facts[:2] == ["xen", "1"]
    assert set(machine.cmdline) <= set(facts)
    answer = vagrant.ssh(f"ping -c 5 -i 0.2 -W 5 {xen.Guest(1).address}", name=machine.name)
    assert " 0% packet loss" in answer
    said = vagrant.ssh("sudo toolkit doctor xen_netback", name=machine.name)
    assert "xen_netback: fully observable" in said
    vagrant.run("vagrant", "destroy", "--force", machine.name, seconds=60)
    assert not list((vagrant.work / "tmp").glob("*/*"))
