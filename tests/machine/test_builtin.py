# SPDX-License-Identifier: GPL-2.0-only
"""virtio_net that is part of the kernel, as in guests of Firecracker and Kata and in many clouds."""

from pathlib import Path

import pytest

from tests.machine.harness.lab import Lab, assert_log_is_clean, recovered, result
from vm import guest, trial
from vm.demo import judge

pytestmark = pytest.mark.machine("virtio-net-builtin")


def test_builtin_driver_is_there_without_a_module(machine: guest.Guest) -> None:
    """What this kernel shows of the driver is what the other tests rest on."""
    link = "/sys/class/net/eth1/device/driver"
    assert machine.ssh(f"basename $(readlink -f {link})").stdout.strip() == "virtio_net"
    for path in (f"{link}/module", "/sys/module/virtio_net/initstate", "/lib/modules/$(uname -r)"):
        assert machine.ssh(f"test -e {path}").returncode == 1, path
    assert machine.ssh("cat /proc/modules", check=True).stdout == ""


def test_doctor_finds_all_of_a_builtin_driver(machine: guest.Guest) -> None:
    said = machine.ssh("sudo toolkit doctor virtio_net", check=True).stdout
    assert "virtio_net: fully observable" in said
    assert "module: virtio_net, built in" in said
    assert "devices: eth1 (1 queues)" in said


def test_nic_of_a_builtin_driver_is_traced_by_its_own_probes(machine: guest.Guest) -> None:
    machine.ssh("sudo toolkit trace -d eth1 --duration 2 --force -o /var/tmp/eth1.rxt", check=True)
    said = machine.ssh("sudo toolkit info /var/tmp/eth1.rxt", check=True).stdout
    assert "Driver: virtio_net, built in" in said


def test_stall_of_a_builtin_driver_is_seen_by_the_sender(
    lab: Lab, machine: guest.Guest, tmp_path: Path
) -> None:
    files = lab.trial(machine, tmp_path, "knob", traffic=trial.Traffic(), reached=recovered)
    analysis, found = result(files)
    assert judge(found) == []
    assert found["variant"] == "built in"
    assert found["regime"] == "delayed work, NAPI off"
    longest = analysis.stalls.sort_values("duration_ns").iloc[-1]
    assert (longest["device"], longest["queue"]) == ("eth1", 0)
    assert longest["napi_off_ns"] > 0.9 * longest["duration_ns"]
    assert longest["gfp_names"] == "GFP_ATOMIC"
    assert not longest["open"]
    assert_log_is_clean(machine)
