# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that refuses probes: doctor and trace say so in one sentence, and how to get what is missing.

The machine is that of the tests of aoe, which are over by then: it need not be booted for these.
"""

import json
from collections.abc import Iterator

import pytest

from tests.machine.harness.lab import Lab
from tests.machine.test_capture import fails
from vm import guest

pytestmark = pytest.mark.machine("aoe")

TRACE = "sudo toolkit trace virtio_net --force -o /var/tmp/r.rxt"
LOCKDOWN = "/sys/kernel/security/lockdown"


@pytest.fixture
def machine(lab: Lab) -> guest.Guest:
    found = lab.boot("aoe")
    lab.end_trace(found)
    return found


@pytest.fixture
def lockable(lab: Lab, machine: guest.Guest) -> Iterator[guest.Guest]:
    """A machine that is thrown away: what was locked down once stays so."""
    machine.ssh(f"test -e {LOCKDOWN} || sudo mount -t securityfs securityfs /sys/kernel/security", check=True)
    yield machine
    lab.stop(machine.kind)


def findings(machine: guest.Guest) -> dict[str, dict[str, str]]:
    """What doctor finds, by what it looked at."""
    done = machine.ssh("sudo toolkit doctor virtio_net --json", timeout=300)
    assert "Traceback" not in done.stderr
    return {finding["what"]: finding for finding in json.loads(done.stdout)["virtio_net"]}


def refused(machine: guest.Guest, what: str, sentence: str, mend: str) -> None:
    """Doctor finds this one thing, and trace says the same."""
    found = findings(machine)
    assert [finding["what"] for finding in found.values() if finding["level"] == "fail"] == [what]
    assert sentence in found[what]["found"] and mend in found[what]["mend"]
    fails(machine, TRACE, sentence)


def ends_well(machine: guest.Guest, command: str) -> None:
    """A trace ends as it should, though its command takes away what bcc looks into when probes come off."""
    done = machine.ssh(f"{TRACE} -- sh -c '{command}'", timeout=300)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert "ended by command" in done.stderr


def test_hidden_addresses(machine: guest.Guest) -> None:
    before = machine.ssh("sysctl -n kernel.kptr_restrict", check=True).stdout.strip()
    machine.ssh("sudo sysctl -q kernel.kptr_restrict=2", check=True)
    try:
        refused(machine, "addresses", "kernel.kptr_restrict is 2", "sysctl kernel.kptr_restrict=1")
    finally:
        machine.ssh(f"sudo sysctl -q kernel.kptr_restrict={before}", check=True)


def test_tracefs_that_is_not_mounted(machine: guest.Guest) -> None:
    try:
        ends_well(machine, "umount -l /sys/kernel/debug; umount -l /sys/kernel/tracing")
        machine.ssh("sudo mount -t debugfs nodev /sys/kernel/debug", check=True)
        assert machine.ssh("sudo cat /sys/kernel/debug/kprobes/list", check=True).stdout == ""
        machine.ssh("sudo umount -l /sys/kernel/tracing")
        refused(machine, "tracefs", "tracefs is not mounted", "mount -t tracefs")
    finally:
        machine.ssh(
            "mountpoint -q /sys/kernel/tracing || sudo mount -t tracefs nodev /sys/kernel/tracing; "
            "mountpoint -q /sys/kernel/debug || sudo mount -t debugfs nodev /sys/kernel/debug",
            check=True,
        )


def test_lockdown(lockable: guest.Guest) -> None:
    """The level integrity is no obstacle, confidentiality is; a trace that meets it ends well."""
    lockable.ssh(f"echo integrity | sudo tee {LOCKDOWN}", check=True)
    ends_well(lockable, f"echo confidentiality >{LOCKDOWN}")
    refused(lockable, "lockdown", "locked down (confidentiality)", "lockdown=confidentiality")
