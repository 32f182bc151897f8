# SPDX-License-Identifier: GPL-2.0-only
"""The example of a driver on a real kernel: only its directory is put into a machine's probes."""

import json
from pathlib import Path

import pytest

import toolkit
from tests.machine.harness.lab import Lab, fetch
from tests.machine.test_virtio_net import received
from tests.test_example import EXAMPLE, known
from vm import guest, trial

pytestmark = pytest.mark.machine("virtio-net")

PROBES = "/opt/toolkit/src/probes/e1000e"
DEVICE = "eth0"
"""The NIC that the machine is managed by: what ssh receives is its load."""


@pytest.fixture
def machine(lab: Lab) -> guest.Guest:
    found = lab.boot("virtio-net")
    lab.end_trace(found)
    return found


def test_a_driver_that_is_only_a_directory_is_traced(machine: guest.Guest, tmp_path: Path) -> None:
    machine.ssh("mkdir -p /var/tmp/example", check=True)
    for file in EXAMPLE.iterdir():
        machine.copy_to(file, f"/var/tmp/example/{file.name}")
    # It takes the place of the driver that is only declared.
    machine.ssh(f"sudo mv {PROBES} /var/tmp/declared && sudo cp -r /var/tmp/example {PROBES}", check=True)
    try:
        doctor = machine.ssh("sudo toolkit doctor e1000e --json")
        findings = json.loads(doctor.stdout)["e1000e"]
        assert {finding["level"] for finding in findings} == {"ok"}, findings
        with trial.tracing(machine, "e1000e", "/var/tmp/e1000e.rxt", options=["-d", DEVICE, "--force"]):
            at_begin = received(machine, DEVICE)
            machine.copy_to(_load(tmp_path), "/var/tmp/load")
            at_end = received(machine, DEVICE)
    finally:
        machine.ssh(f"sudo rm -rf {PROBES} && sudo mv /var/tmp/declared {PROBES}", check=True)
    path = fetch(machine, "/var/tmp/e1000e.rxt", tmp_path / "e1000e.rxt")
    with known(tmp_path):
        found = toolkit.read(path)
        (queue,) = found.queues.to_dict("records")
    assert found.damage is None
    # The trace began before and ended after the NIC was asked.
    assert 1000 < at_end - at_begin <= queue["packets"]
    assert queue["refills"] > 10 and queue["failed"] == 0
    assert 200 < queue["posted_min"] <= queue["size"]
    assert queue["irqs"] > 10


def _load(folder: Path) -> Path:
    """Write a file whose copy makes some thousand frames."""
    path = folder / "load"
    path.write_bytes(bytes(4_000_000))
    return path
