# SPDX-License-Identifier: GPL-2.0-only
"""`toolkit record` in a machine: with the rights that its service has, and no more."""

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path

import pytest

import toolkit
from tests import power
from tests.machine.harness.lab import Lab, counters_of_recorder, fetch
from tests.machine.harness.terminal import terminal
from toolkit.live.remote import Address, receive
from vm import guest, trial

UNIT = Path(__file__).parents[2] / "docs/systemd/rx-stall-record.service"
KEPT = "/var/tmp/kept"


def _rights() -> str:
    """Return the capabilities of the service, as setpriv takes them."""
    found = re.search(r"^CapabilityBoundingSet=(.+)$", UNIT.read_text(), re.MULTILINE)
    assert found
    return ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in found[1].split())])


@contextmanager
def _recorder(machine: guest.Guest, options: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Start a recorder with the rights of the service; give it with what it said until it was ready."""
    record = f"toolkit record -d eth1 -o {KEPT} {options}"
    command = f"echo $$ >/var/tmp/record.pid; exec setpriv --bounding-set={_rights()} {record}"
    with machine.popen(f'exec sudo sh -c "{command.replace("$", chr(92) + "$")}"') as process:
        lines: list[str] = []
        for line in process.stderr or ():
            lines.append(line.rstrip())
            if line.startswith("recording "):
                break
        yield process, lines


def _end(machine: guest.Guest, process: subprocess.Popen[str], signal: str) -> int:
    machine.ssh(f"sudo kill -{signal} $(cat /var/tmp/record.pid)", check=True)
    return process.wait(timeout=120)


def _segments(machine: guest.Guest, target: Path) -> list[Path]:
    """Fetch what is on disk of the last minutes."""
    machine.ssh(f"sudo rm -rf /var/tmp/ring; sudo cp -r {KEPT}/ring /var/tmp/", check=True)
    machine.ssh("sudo chown -R $(id -u) /var/tmp/ring", check=True)
    machine.copy_from("/var/tmp/ring", target)
    return sorted(target.rglob("*.segment"))


@pytest.mark.machine("virtio-net")
def test_a_stall_is_put_aside_with_the_time_around_it(
    lab: Lab, machine: guest.Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.load(machine, "stock")
    lab.end_trace(machine)
    machine.ssh(f"sudo rm -rf {KEPT}", check=True)
    options = "--when 'stall > 500ms' --after 2s --keep 16s --listen 127.0.0.1:9435"
    with _recorder(machine, options) as (process, lines):
        assert lines[-1] == f"recording eth1; put aside in {KEPT} when stall > 500ms.", lines
        refused = machine.ssh(f"sudo toolkit record -d eth1 -o {KEPT}")
        assert refused.returncode == 1
        assert f"another recorder puts its traces into {KEPT}" in " ".join(refused.stderr.split())
        with trial.wire(machine, trial.Traffic(), tmp_path / "witness.json"):
            time.sleep(5)
            lab.scenario(machine, "knob", "--hold", "2")
            assert process.stderr is not None
            told = process.stderr.readline().rstrip()
        name = re.fullmatch(rf"{KEPT}/(\d+-\d+-stall)\.rxt: stall > 500ms", told)
        assert name, told
        scraped = counters_of_recorder(machine, 9435)
        with terminal(machine, f"sudo toolkit watch --recorder -o {KEPT}; echo status $?") as shown:
            shown.wait(lambda text: "recorder of" in text and "eth1 rx-0" in text)
            _assert_followed_over_ssh(machine, tmp_path, monkeypatch)
            saved = machine.ssh(f"sudo toolkit record --save -o {KEPT}", check=True).stdout.strip()
            assert process.stderr.readline().rstrip() == f"{saved}: asked for"
            # What was saved is of memory: the disk may be behind it.
            later = f'find {KEPT}/ring -name "*.segment" -newer {saved} | grep -q .'
            machine.ssh(f"sudo timeout 60 sh -c 'until {later}; do sleep 0.2; done'", check=True)
            assert _end(machine, process, "KILL") != 0
            shown.wait(lambda text: "it has ended" in text)
            shown.press("q")
            shown.wait(lambda text: "0 dropped." in text and "status 0" in text)
    _assert_readable_after_the_kill(machine, saved, tmp_path)
    stalls = re.search(r'^rx_stall_stalls_total\{device="eth1".*\} ([\d.]+)$', scraped, re.MULTILINE)
    assert stalls and float(stalls[1]) >= 1
    found = toolkit.read(fetch(machine, f"{KEPT}/{name[1]}.rxt", tmp_path / "kept.rxt"))
    assert found.damage is None
    about = json.loads(fetch(machine, f"{KEPT}/{name[1]}.json", tmp_path / "kept.json").read_text())
    assert (about["device"], about["queue"]) == ("eth1", 0)
    # It was longer than the limit when it was noticed, and what came before it and after that is there, too.
    noticed = found.stalls[found.stalls["start_ns"] + 500e6 <= about["at_ns"]]
    noticed = noticed[noticed["duration_ns"] > 500e6]
    began = found.summary["began_ns"]
    assert noticed["start_ns"].min() - began > 5e9
    assert about["at_ns"] <= began + found.summary["duration_ns"]
    # Memory was short then, and no more afterwards.
    assert about["before"]["pressure"]["memory"].startswith("some ")
    assert "Node 0" in about["before"]["zoneinfo"] and about["after"]["kernel_log"]


def _assert_followed_over_ssh(machine: guest.Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real ssh brings what the recorder writes; its settings are those of machines, and it becomes root."""
    program, *words = machine.ssh_argv("-T", alone=True)
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\nexec $(command -pv {program}) {shlex.join(words)} -- "sudo $3"\n')
    ssh.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
        goes_on = [True]
        readers = receive(Address("ssh://machine", Path(KEPT)), lambda: bool(goes_on))
        assert any(len(columns["ts"]) for columns, _ in islice(next(readers), 5))
        goes_on.clear()
        assert list(readers) == []


def _assert_readable_after_the_kill(machine: guest.Guest, saved: str, tmp_path: Path) -> None:
    """Each segment is readable to its last whole batch, and the next recorder goes on beside them."""
    asked = toolkit.read(fetch(machine, saved, tmp_path / "asked.rxt"))
    left = _segments(machine, tmp_path / "killed")
    traces = [toolkit.read(path) for path in left]
    *whole, last = traces
    # Each is 2 s long, or as long as the machine took for a batch.
    assert len(whole) >= 2 and [trace.damage for trace in whole] == [None] * len(whole)
    # It may also be killed between two segments.
    assert "cut off" in last.damage if last.damage else last.analysis.scan.reason == "rotated"
    for trace, following in pairwise(traces):
        assert trace.summary["began_ns"] + trace.summary["duration_ns"] == following.summary["began_ns"]
    asked_end, *ends = (each.summary["began_ns"] + each.summary["duration_ns"] for each in (asked, *traces))
    assert asked_end <= ends[-1]
    # What was asked for is there, and no more, but for a segment that was to be deleted when it was killed.
    assert ends[-1] - traces[0].summary["began_ns"] >= 16e9
    assert ends[-1] - ends[1] <= 16e9
    large = machine.ssh(f"sudo toolkit record -d eth1 -o {KEPT} --keep 9000G")
    assert large.returncode == 1 and "the disk of" in " ".join(large.stderr.split())
    with _recorder(machine, "--keep 16s") as (process, lines):
        assert (
            f"the recorder before this one did not end by itself; its segments are in {KEPT}/ring." in lines
        )
        assert _end(machine, process, "TERM") == 0
    after = _segments(machine, tmp_path / "again")
    assert [path.name for path in after[: len(left)]] == [path.name for path in left]
    assert toolkit.read(after[-1]).damage is None


@pytest.mark.machine("virtio-net")
def test_recording_goes_on_where_the_clock_is_put_back(
    lab: Lab, machine: guest.Guest, tmp_path: Path
) -> None:
    lab.load(machine, "stock")
    lab.end_trace(machine)
    machine.ssh(f"sudo rm -rf {KEPT}", check=True)
    save = f"sudo toolkit record --save -o {KEPT}"
    with _recorder(machine, "--keep 80s") as (process, _):
        before = machine.ssh(save, check=True).stdout.strip()
        time.sleep(12)
        machine.ssh("sudo date --set='1 hour ago'", check=True)
        after = machine.ssh(save, check=True).stdout.strip()
        assert _end(machine, process, "TERM") == 0
    machine.ssh("sudo date --set='1 hour'", check=True)
    # Only names are of the wall clock.
    assert after < before
    first, second = (
        toolkit.read(fetch(machine, path, tmp_path / Path(path).name)) for path in (before, after)
    )
    for trace in (first, second):
        assert trace.damage is None and trace.summary["complete"]
    assert second.summary["began_ns"] == first.summary["began_ns"]
    assert second.summary["duration_ns"] > first.summary["duration_ns"]
    segments = [toolkit.read(path) for path in _segments(machine, tmp_path / "ring")]
    assert [trace.damage for trace in segments] == [None] * len(segments) and len(segments) > 1
    for trace, following in pairwise(segments):
        assert trace.summary["began_ns"] + trace.summary["duration_ns"] == following.summary["began_ns"]


@pytest.mark.slow
@pytest.mark.machine("virtio-net")
def test_what_is_on_disk_when_the_power_is_cut_is_readable(lab: Lab, tmp_path: Path) -> None:
    """One machine at a time: this one has a disk of its own."""
    lab.stop("virtio-net")
    found = power.run("virtio-net", 2, 19, tmp_path)
    assert (found.cuts, found.wrong) == (2, [])
    assert found.segments and found.lost_s
