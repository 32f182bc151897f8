# SPDX-License-Identifier: GPL-2.0-only
"""`toolkit record` in a machine: with the rights that its service has, and no more."""

import json
import re
import time
from pathlib import Path

import pytest

import toolkit
from tests.machine.harness.lab import Lab, fetch
from vm import guest, trial

UNIT = Path(__file__).parents[2] / "docs/systemd/rx-stall-record.service"
KEPT = "/var/tmp/kept"


def _rights() -> str:
    """Return the capabilities of the service, as setpriv takes them."""
    found = re.search(r"^CapabilityBoundingSet=(.+)$", UNIT.read_text(), re.MULTILINE)
    assert found
    return ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in found[1].split())])


@pytest.mark.machine("virtio-net")
def test_a_stall_is_put_aside_with_the_time_around_it(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    lab.load(machine, "stock")
    lab.end_trace(machine)
    machine.ssh(f"sudo rm -rf {KEPT}", check=True)
    record = f"toolkit record -d eth1 --when 'stall > 500ms' --after 2s -o {KEPT} --listen 127.0.0.1:9435"
    command = f"echo $$ >/var/tmp/record.pid; exec setpriv --bounding-set={_rights()} {record}"
    with machine.popen(f'exec sudo sh -c "{command.replace("$", chr(92) + "$")}"') as process:
        lines: list[str] = []
        for line in process.stderr or ():
            lines.append(line.rstrip())
            if line.startswith("recording "):
                break
        assert lines[-1] == f"recording eth1; put aside in {KEPT} when stall > 500ms.", lines
        refused = machine.ssh(f"sudo toolkit record -d eth1 -o {KEPT}")
        assert refused.returncode == 1
        assert f"another recorder puts its traces into {KEPT}" in " ".join(refused.stderr.split())
        with trial.wire(machine, trial.Traffic(), tmp_path / "witness.json"):
            time.sleep(5)
            machine.module("vm.scenarios.knob --hold 2 -o /dev/null")
            assert process.stderr is not None
            told = process.stderr.readline().rstrip()
        name = re.fullmatch(rf"{KEPT}/(\d+-\d+-stall)\.rxt: stall > 500ms", told)
        assert name, told
        scraped = machine.ssh(
            'python3 -c "import urllib.request as r; '
            "print(r.urlopen('http://127.0.0.1:9435/metrics').read().decode())\"",
            check=True,
        ).stdout
        machine.ssh("sudo kill -TERM $(cat /var/tmp/record.pid)", check=True)
        assert process.wait(timeout=120) == 0
    stalls = re.search(r'^rx_stall_stalls_total\{device="eth1".*\} ([\d.]+)$', scraped, re.MULTILINE)
    assert stalls and float(stalls[1]) >= 1
    found = toolkit.read(fetch(machine, f"{KEPT}/{name[1]}.rxt", tmp_path / "kept.rxt"))
    assert found.damage is None
    longest = found.stalls.nlargest(1, "duration_ns").iloc[0]
    assert longest["duration_ns"] > 500e6 and not longest["open"]
    assert longest["start_ns"] - found.summary["began_ns"] > 5e9
    about = json.loads(fetch(machine, f"{KEPT}/{name[1]}.json", tmp_path / "kept.json").read_text())
    assert (about["device"], about["queue"]) == ("eth1", 0)
    assert longest["start_ns"] < about["at_ns"]
    # Memory was short then, and no more afterwards.
    assert about["before"]["pressure"]["memory"].startswith("some ")
    assert "Node 0" in about["before"]["zoneinfo"] and about["after"]["kernel_log"]
