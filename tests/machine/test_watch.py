# SPDX-License-Identifier: GPL-2.0-only
"""The live view on a real terminal, during a stall; and metrics of it."""

import json
import re
from pathlib import Path

import pytest

import toolkit
from tests.machine.harness.lab import Lab, failed
from tests.machine.harness.terminal import is_clean, terminal
from vm import guest, trial


@pytest.mark.machine("qlge")
def test_watch_shows_a_stall_saves_it_and_leaves_the_terminal_clean(
    lab: Lab, machine: guest.Guest, tmp_path: Path
) -> None:
    """A ring of the unfixed qlge stays deaf when memory is free again, until a small frame comes."""
    lab.reload(machine, "unfixed")
    lab.end_trace(machine)
    machine.ssh("sudo rm -rf /var/tmp/watch && mkdir /var/tmp/watch", check=True)
    command = "cd /var/tmp/watch && sudo toolkit watch qlge -d eth1; echo status $?; stty -a"
    with terminal(machine, command) as shown:
        shown.wait(lambda text: "eth1 rx-1 lbq" in text)
        with trial.wire(machine, trial.Traffic(rate=3000, size=1000), tmp_path / "large.json"):
            shown.wait(lambda text: re.search(r"rx-1 lbq +\d+ +[1-9].* receives", text) is not None)
            starved = re.compile(r"rx-1 lbq +0 .* ([3-9]|\d\d)\.\d s starved")
            lab.scenario(
                machine,
                "knob",
                meanwhile=shown.read,
                reached=lambda: shown.shows(lambda text: starved.search(text) is not None, 60),
            )
            shown.resize(120, 40)
            # It is drawn anew piece by piece.
            deaf = ("░" * 20 + " 0 ", "refill failed (GFP_ATOMIC)", "eth1 rx-1 lbq  is deaf: starved")
            shown.wait(lambda text: all(words in text for words in deaf))
        with trial.wire(machine, trial.Traffic(rate=1, size=100), tmp_path / "small.json"):
            again = r"eth1 rx-1 lbq  receives again after \d+\.\d{3} s"
            told = shown.wait(lambda text: re.search(again, text) is not None)
        shown.press("s")
        shown.wait(lambda text: "saved watch-" in text)
        shown.press("q")
        after = shown.wait(lambda text: "status 0" in text and "-echo " not in text and "icanon" in text)
        assert "0 dropped." in after
        assert is_clean(shown)
    (name,) = machine.ssh("cd /var/tmp/watch && ls *.rxt").stdout.split()
    machine.ssh("sudo chown -R $(id -u) /var/tmp/watch", check=True)
    machine.copy_from(f"/var/tmp/watch/{name}", tmp_path / "saved.rxt")
    trace = toolkit.read(tmp_path / "saved.rxt")
    assert trace.damage is None
    longest = trace.stalls.nlargest(1, "duration_ns")
    assert longest[["name", "state"]].to_numpy().tolist() == [["rx-1 lbq", "starved"]]
    seconds = longest["duration_ns"].iloc[0] / 1e9
    assert f"eth1 rx-1 lbq  receives again after {seconds:.3f} s" in told


@pytest.mark.machine("virtio-net")
def test_what_happened_while_the_terminal_stood_still_is_told(
    lab: Lab, machine: guest.Guest, tmp_path: Path
) -> None:
    """Where all memory is kept back, that of ssh is, too. How long the stall is, the sender says."""
    again = r"receives again after (\d\d?\.\d{3}) s"

    def longest(text: str) -> float:
        return max(map(float, re.findall(again, text)), default=0.0)

    lab.load(machine, "stock")
    lab.end_trace(machine)
    with terminal(machine, "sudo toolkit watch virtio_net -d eth1") as shown:
        shown.wait(lambda text: "eth1 rx-0" in text)
        with trial.wire(machine, trial.Traffic(), tmp_path / "w.json"):
            shown.wait(lambda text: "of 256" in text and "receives" in text)
            lab.scenario(
                machine,
                *("knob", "--hold", "3"),
                meanwhile=shown.read,
                reached=lambda: shown.shows(lambda text: longest(text) > 2, 60),
            )
            told = shown.text()
        gaps = json.loads((tmp_path / "w.json").read_text())["gaps"]
        # A gap may be longer: the ring was full already, since its CPU was late.
        assert longest(told) <= max(gap["duration_ns"] for gap in gaps) / 1e9 + 0.2
        assert "refill failed (GFP_ATOMIC)" in told
        assert "eth1 rx-0  is deaf: napi-off" in told
        shown.press("q")
        shown.wait(lambda text: "0 dropped." in text)


@pytest.mark.machine("virtio-net")
@pytest.mark.parametrize("name", ["TERM", pytest.param("INT", marks=pytest.mark.slow)])
def test_a_signal_leaves_the_terminal_clean(machine: guest.Guest, name: str) -> None:
    with terminal(machine, "sudo toolkit watch virtio_net; echo status $?; stty -a") as shown:
        shown.wait(lambda text: "eth1 rx-0" in text)
        machine.ssh(
            f"sudo kill -{name} $(pgrep -f '^/opt/toolkit/venv/bin/python -m toolkit watch')", check=True
        )
        shown.wait(lambda text: "status 0" in text and "-echo " not in text and "icanon" in text)
        assert is_clean(shown)


@pytest.mark.machine("virtio-net")
def test_metrics_while_a_queue_is_deaf(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    lab.load(machine, "stock")
    lab.end_trace(machine)
    file = "/var/tmp/rx.prom"
    files = lab.trial(
        machine,
        tmp_path,
        *("knob", "--hold", "2"),
        traffic=trial.Traffic(),
        options=["--metrics", file],
        alone=True,
        reached=failed,
    )
    found = dict(
        line.rsplit(" ", 1)
        for line in machine.ssh(f"cat {file}", check=True).stdout.splitlines()
        if line[0] != "#"
    )
    queue = '{device="eth1",driver="virtio_net",queue="0"}'
    trace = toolkit.read(files.trace)
    assert float(found[f"rx_stall_stalls_total{queue}"]) == len(trace.stalls)
    stalled = trace.queues["stalled_ns"].sum() / 1e9
    assert float(found[f"rx_stall_stalled_seconds_total{queue}"]) == pytest.approx(stalled, abs=1e-3)
    assert float(found[f"rx_stall_refills_failed_total{queue}"]) == trace.queues["failed"].sum()
    assert float(found["rx_stall_events_dropped_total"]) == 0
    assert machine.ssh(f"stat -c %a {file}").stdout.strip() == "644"
