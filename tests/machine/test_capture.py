# SPDX-License-Identifier: GPL-2.0-only
"""How a trace begins and ends on a real kernel, and what a mistake is answered with."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from toolkit.errors import UserError
from toolkit.stalls.analysis import analyze, summary
from toolkit.trace.reader import TraceReader
from vm import guest, trial
from vm.qemu import mac
from vm.wire import frames, sender


def ended(path: Path) -> str:
    """Why a trace ended."""
    return str(summary(analyze(path))["reason"])


def fetch(machine: guest.Guest, path: str, target: Path) -> Path:
    machine.ssh(f"sudo chown $(id -u) {path}", check=True)
    machine.copy_from(path, target)
    return target


def fails(machine: guest.Guest, command: str, sentence: str) -> None:
    """The command ends with one sentence on stderr, no traceback and a status that is not 0."""
    done = machine.ssh(command, timeout=300)
    assert done.returncode not in (0, 255), done.stdout
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("toolkit: error: "), done.stderr
    assert sentence in last


def test_doctor_finds_everything(machine: guest.Guest) -> None:
    done = machine.ssh("sudo toolkit doctor virtio_net --json", check=True)
    findings = json.loads(done.stdout)["virtio_net"]
    assert {finding["level"] for finding in findings} == {"ok"}, findings
    assert "fully observable" in machine.ssh("sudo toolkit doctor virtio_net").stdout


def test_doctor_without_root_says_so(machine: guest.Guest) -> None:
    done = machine.ssh("toolkit doctor virtio_net --json")
    assert done.returncode == 1
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)["virtio_net"]}
    assert findings["user"]["level"] == "fail"
    assert "sudo" in findings["user"]["mend"]


def test_duration_ends_a_trace_and_the_file_is_private(machine: guest.Guest, tmp_path: Path) -> None:
    machine.ssh("sudo toolkit trace virtio_net --duration 2 -o /var/tmp/a.rxt --force", check=True)
    assert machine.ssh("stat -c %a /var/tmp/a.rxt").stdout.strip() == "600"
    assert ended(fetch(machine, "/var/tmp/a.rxt", tmp_path / "a.rxt")) == "duration"


def test_trace_says_what_it_was_taken_on(machine: guest.Guest, tmp_path: Path) -> None:
    machine.ssh("sudo toolkit trace virtio_net --duration 1 -o /var/tmp/a.rxt --force", check=True)
    meta = TraceReader(fetch(machine, "/var/tmp/a.rxt", tmp_path / "a.rxt")).meta
    assert meta["kernel"] == machine.ssh("uname -r").stdout.strip()
    driver = meta["drivers"][0]
    note = machine.ssh("od -An -tx1 -v /sys/module/virtio_net/notes/.note.gnu.build-id | tr -d ' \\n'")
    assert len(driver["build_id"]) == 40
    assert note.stdout.endswith(driver["build_id"])
    assert (driver["name"], driver["variant"]) == ("virtio_net", "stock")
    assert driver["regime"] == "delayed work, NAPI off"
    assert all(hook["attached"] for hook in driver["hooks"])
    assert meta["gfp_flags"]["GFP_ATOMIC"] == 0xA20
    (device,) = meta["devices"]
    assert (device["name"], len(device["queues"]), device["queues"][0]["size"]) == ("eth1", 1, 256)


@pytest.mark.parametrize("signal", ["INT", "TERM"])
def test_signal_ends_a_trace(machine: guest.Guest, signal: str, tmp_path: Path) -> None:
    machine.ssh("sudo rm -f /var/tmp/s.rxt")
    with trial.tracing(machine, "virtio_net", "/var/tmp/s.rxt") as pid:
        machine.ssh(f"sudo kill -{signal} {pid}", check=True)
    assert ended(fetch(machine, "/var/tmp/s.rxt", tmp_path / "s.rxt")) == "interrupt"


def frames_for(machine: guest.Guest, count: int, rate: float) -> None:
    """Some frames, and then none: taking probes off a function that runs has crashed emulated CPUs."""
    with sender.connect(machine.wire(0)) as wire:
        sender.send(wire, frames.to_ports(200, [9000], dst_mac=mac(0)), rate=rate, count=count)


def test_killed_trace_opens_up_to_its_last_batch(machine: guest.Guest, tmp_path: Path) -> None:
    machine.ssh("sudo rm -f /var/tmp/k.rxt")
    with (
        pytest.raises(UserError, match="the trace failed"),
        trial.tracing(machine, "virtio_net", "/var/tmp/k.rxt") as pid,
    ):
        frames_for(machine, 8000, 2000)
        time.sleep(2)
        machine.ssh(f"sudo kill -KILL {pid}", check=True)
    path = fetch(machine, "/var/tmp/k.rxt", tmp_path / "k.rxt")
    found = summary(analyze(path))
    assert not found["complete"]
    assert found["duration_ns"] > 2e9
    assert sum(queue["packets"] for queue in found["queues"]) > 2000
    done = subprocess.run(
        [sys.executable, "-m", "toolkit", "analyze", str(path), "-o", str(tmp_path / "out")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3
    assert "cut off" in done.stderr


def test_module_unload_ends_a_trace(machine: guest.Guest, tmp_path: Path) -> None:
    machine.ssh("sudo rm -f /var/tmp/m.rxt")
    try:
        with trial.tracing(machine, "virtio_net", "/var/tmp/m.rxt"):
            machine.ssh("sudo rmmod virtio_net", check=True)
            time.sleep(2)
        assert ended(fetch(machine, "/var/tmp/m.rxt", tmp_path / "m.rxt")) == "module unloaded"
        fails(machine, "sudo toolkit trace virtio_net -o /var/tmp/n.rxt", "virtio_net is not loaded")
    finally:
        machine.ssh("sudo modprobe virtio_net && sleep 1 && sudo ip link set eth1 up", check=True)


def test_full_disk_keeps_what_was_written(machine: guest.Guest, tmp_path: Path) -> None:
    machine.ssh("sudo mkdir -p /mnt/tiny && sudo mount -t tmpfs -o size=2m tmpfs /mnt/tiny", check=True)
    try:
        with (
            pytest.raises(UserError, match="no space left"),
            trial.tracing(machine, "virtio_net", "/mnt/tiny/f.rxt", options=["--detail", "full"]),
        ):
            frames_for(machine, 4000, 2000)
            time.sleep(2)
            machine.ssh("sudo dd if=/dev/zero of=/mnt/tiny/fill bs=4k 2>/dev/null")
            frames_for(machine, 1000, 5000)
            time.sleep(3)
        path = fetch(machine, "/mnt/tiny/f.rxt", tmp_path / "f.rxt")
    finally:
        machine.ssh("sudo umount /mnt/tiny")
    found = summary(analyze(path))
    assert not found["complete"]
    assert 3000 < sum(queue["packets"] for queue in found["queues"]) < 5000


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("toolkit trace virtio_net", "needs root"),
        ("sudo toolkit trace e1001", "unknown driver 'e1001'; known are:"),
        ("sudo toolkit trace virtio_net -d eth7", "no device 'eth7'"),
        ("sudo toolkit trace virtio_net -d eth0", "no device 'eth0'"),
        ("sudo toolkit trace virtio_net -q 5", "no queue 5"),
        ("sudo toolkit trace virtio_net --detail half", "normal or full"),
        ("sudo toolkit trace virtio_net -o /nowhere/x.rxt", "/nowhere"),
        ("sudo toolkit trace virtio_net -o /etc/hostname", "exists"),
    ],
)
def test_mistake_is_one_sentence(machine: guest.Guest, command: str, sentence: str) -> None:
    fails(machine, command, sentence)


def test_missing_headers(machine: guest.Guest) -> None:
    machine.ssh("sudo mount -t tmpfs tmpfs /usr/src", check=True)
    try:
        fails(machine, "sudo toolkit trace virtio_net -o /var/tmp/h.rxt", "apt install linux-headers-")
        assert machine.ssh("test -e /var/tmp/h.rxt").returncode == 1
    finally:
        machine.ssh("sudo umount /usr/src", check=True)


def test_missing_bcc(machine: guest.Guest) -> None:
    there = "/usr/lib/python3/dist-packages/bcc"
    machine.ssh(f"sudo mv {there} {there}.away", check=True)
    try:
        fails(machine, "sudo toolkit trace virtio_net -o /var/tmp/b.rxt", "apt install python3-bpfcc")
    finally:
        machine.ssh(f"sudo mv {there}.away {there}", check=True)


def test_scenario_refuses_to_run_elsewhere(machine: guest.Guest) -> None:
    marker = "/etc/rx-stall-testbed"
    machine.ssh(f"sudo mv {marker} {marker}.away", check=True)
    try:
        done = machine.ssh(f"{guest.PYTHON} -m vm.scenarios.knob")
    finally:
        machine.ssh(f"sudo mv {marker}.away {marker}", check=True)
    assert done.returncode == 1
    assert "no testbed machine" in done.stderr
