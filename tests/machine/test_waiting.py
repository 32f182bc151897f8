# SPDX-License-Identifier: GPL-2.0-only
"""Why frames wait on a real kernel: each reason is told from the others, and an idle queue is not silent."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

import toolkit
from tests.machine.harness.lab import Lab, result
from toolkit.report import text
from toolkit.stalls.analysis import Analysis, analyze
from toolkit.stalls.slow import SLOW_POLL, UNPOLLED
from vm import guest, trial, variants
from vm.qemu import monitor

pytestmark = pytest.mark.machine("virtio-net")

UNSCHEDULED = "unscheduled"
#: Ticks of the clock at which waiting frames are found come 49 times a second (ns).
TICK_NS = 1_000_000_000 // 49


def lost_interrupt(
    lab: Lab, machine: guest.Guest, out: Path, rate: int
) -> tuple[Analysis, dict[str, Any], Any]:
    """The driver forgets an interrupt, and a worker polls again three seconds later.

    :param rate: frames a second.
    :return: the analysis, its summary, and the one stall.
    """
    lab.reload(machine, "lossy")
    files = lab.trial(machine, out, "lost", "--hold", "3", traffic=trial.Traffic(rate=rate))
    analysis, found = result(files)
    (stall,) = analysis.stalls[analysis.stalls[f"{UNSCHEDULED}_ns"] > 0].to_dict("records")
    assert (stall["device"], stall["queue"], stall["state"]) == ("eth1", 0, UNSCHEDULED)
    assert (stall["class"], stall["cause"], stall["open"]) == ("stall", "no_interrupt", False)
    # It is found at the next tick, which may be late; on a busy host the worker is late, too.
    events = toolkit.read(files.trace).events
    taken = events[(events["packets"] > 0) & (events["ts"] <= stall["start_ns"])]["ts"].max()
    assert stall["end_ns"] - taken > 3_000_000_000 - TICK_NS
    assert stall["duration_ns"] < 4_000_000_000
    assert stall["packets"] == 0
    assert "no interrupt came that would have scheduled NAPI" in text.verdict(analysis)
    return analysis, found, stall


def test_a_lost_interrupt_is_told(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    _, found, stall = lost_interrupt(lab, machine, tmp_path, rate=2000)
    # The sender saw the same, once the ring was used up.
    assert stall["witness_gap_ns"] > 2_500_000_000
    assert found["witness"]["stalls_compared"] == 1
    assert found["witness"]["agrees"], found["witness"]["sentence"]


@pytest.mark.slow
@pytest.mark.machine("virtio-net-packed")
def test_a_lost_interrupt_of_a_packed_ring_is_told(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    """QEMU interrupts at the end of such a ring in any case: so few frames come that it is not reached."""
    analysis, found, _ = lost_interrupt(lab, machine, tmp_path, rate=10)
    assert analysis.queues["packets"].sum() < 256
    assert found["witness"]["refused"] == 0


def test_a_paused_wire_is_no_silence(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    lab.load(machine, "stock")
    traffic = trial.Traffic(rate=1000)
    moments: list[int] = []

    def pause() -> None:
        moments.append(machine.clock_offset().offset_ns + time.monotonic_ns())
        time.sleep(4)
        moments.append(machine.clock_offset().offset_ns + time.monotonic_ns())
        with trial.wire(machine, traffic, tmp_path / "after.json"):
            time.sleep(1)

    files = lab.trial(machine, tmp_path, seconds=1, traffic=traffic, then=pause)
    analysis = analyze(files.trace)
    begin, end = moments
    (queue,) = analysis.queues.to_dict("records")
    assert queue["packets"] > json.loads(files.witness.read_text())["sent"] > 0
    assert queue["gap_max_ns"] > 3_500_000_000
    assert analysis.stalls.empty, analysis.stalls.to_string()
    silent = analysis.silences[(analysis.silences["end_ns"] > begin) & (analysis.silences["start_ns"] < end)]
    assert silent.empty, silent.to_string()


def test_a_suspended_machine_is_no_silence(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    """QEMU stops the machine's clock with its CPUs: three seconds of the host's are none of the machine's."""
    lab.load(machine, "stock")
    traffic = trial.Traffic(rate=1000)
    clocks: list[guest.Clock] = []
    moments: list[int] = []

    def suspend() -> None:
        clocks.append(machine.clock_offset())
        for command in ("stop", "cont"):
            moments.append(time.monotonic_ns())
            monitor.tell(machine.files.qmp, command, {})
            moments.append(time.monotonic_ns())
            time.sleep(3)
        clocks.append(machine.clock_offset())
        with trial.wire(machine, traffic, tmp_path / "after.json"):
            time.sleep(1)

    files = lab.trial(machine, tmp_path, seconds=1, traffic=traffic, then=suspend)
    analysis = analyze(files.trace)
    before, after = clocks
    error = before.error_ns + after.error_ns
    asked, stopped, asked_again, goes_on = moments
    assert asked_again - stopped - error <= before.offset_ns - after.offset_ns <= goes_on - asked + error
    assert analysis.queues["packets"].sum() > json.loads(files.witness.read_text())["sent"] > 0
    assert analysis.stalls.empty, analysis.stalls.to_string()
    for table in (analysis.silences, analysis.no_ticks):
        assert (table["duration_ns"] < 1_000_000_000).all(), table.to_string()


def test_interrupts_that_are_off_are_told(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    """A module turns them off for 0.3 s, on each CPU in turn; one of these takes the queue's interrupts."""
    lab.load(machine, "stock")
    variants.insert(machine, "irqs_off", say=print)
    files = lab.trial(machine, tmp_path, "masked", "--hold", "0.3", traffic=trial.Traffic(rate=6000))
    analysis, found = result(files)
    phases = [each for each in json.loads(files.phases.read_text())["phases"] if each["name"] != "after"]
    assert len(phases) == 2
    # On a busy host the module's 0.3 s take longer, as all of the phase does.
    by_module = analysis.no_ticks[analysis.no_ticks["stack"].str.contains("irqs_off_for", na=False)]
    assert len(by_module) == 1, analysis.no_ticks.to_string()
    without = by_module.iloc[0]
    assert "irqs_off_for" in without["stack"].split(";")[-2:], without["stack"]
    (phase,) = (each for each in phases if each["start_ns"] < without["end_ns"] < each["end_ns"])
    longest = phase["end_ns"] - phase["start_ns"] + TICK_NS
    assert 280_000_000 < without["duration_ns"] < longest, analysis.no_ticks.to_string()
    # The frames of that time waited: the poll that took them came after it.
    waits = analysis.silences[analysis.silences["state"] == UNPOLLED]
    waits = waits[(waits["start_ns"] < without["end_ns"]) & (waits["end_ns"] > without["start_ns"])]
    wait = waits.nlargest(1, "duration_ns").iloc[0]
    assert wait["start_ns"] >= without["start_ns"] and wait["end_ns"] >= without["end_ns"]
    assert 250_000_000 < wait["duration_ns"] < longest, analysis.silences.to_string()
    assert analysis.stalls.empty, analysis.stalls.to_string()
    assert found["witness"]["in_silences_ns"][UNPOLLED] > 150_000_000
    assert "interrupts were off" in text.verdict(analysis)


def test_a_heavy_xdp_program_makes_slow_polls(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    lab.load(machine, "stock")
    files = lab.trial(machine, tmp_path, "heavy", traffic=trial.Traffic(rate=500))
    analysis, _ = result(files)
    (heavy,) = (each for each in json.loads(files.phases.read_text())["phases"] if each["name"] == "heavy")
    slow = analysis.silences[analysis.silences["state"] == SLOW_POLL]
    within = slow["end_ns"].clip(upper=heavy["end_ns"]) - slow["start_ns"].clip(lower=heavy["start_ns"])
    assert within.clip(lower=0).sum() > (heavy["end_ns"] - heavy["start_ns"]) / 2, slow.to_string()
    ticks = analysis.ticks[analysis.ticks["state"] == SLOW_POLL]
    in_program = ticks["stack"].str.contains(r"bpf_prog_[0-9a-f]+_heavy", na=False)
    assert ticks["count"][in_program].sum() > ticks["count"].sum() / 2 > 20, ticks.to_string()
    assert analysis.stalls.empty, analysis.stalls.to_string()


@pytest.mark.machine("virtio-net-xsk")
def test_a_program_that_keeps_its_buffers_is_the_cause(
    lab: Lab, machine: guest.Guest, tmp_path: Path
) -> None:
    """Memory is not short: a program that receives with AF_XDP hands no buffer back for three seconds."""
    scenario = ("kept", "--buffers", "512", "--hold", "3")
    files = lab.trial(machine, tmp_path, *scenario, traffic=trial.Traffic(rate=1000))
    analysis, found = result(files)
    (kept,) = (each for each in json.loads(files.phases.read_text())["phases"] if each["name"] == "kept")
    stall = analysis.stalls.nlargest(1, "duration_ns").iloc[0]
    assert (stall["device"], stall["queue"], stall["state"]) == ("eth1", 0, "starved")
    assert (stall["cause"], stall["posted"]) == ("program_gave_no_buffer", 0)
    # First the buffers run out that the driver still has.
    assert 1_500_000_000 < stall["duration_ns"] < kept["end_ns"] - kept["start_ns"] + 100_000_000
    assert kept["start_ns"] < stall["start_ns"] < kept["end_ns"]
    assert analysis.queues["alloc_failures"].sum() == 0
    assert "the program that receives with AF_XDP gave no buffer back" in text.verdict(analysis)
    assert found["witness"]["agrees"], found["witness"]["sentence"]


@pytest.mark.slow
@pytest.mark.machine("virtio-net-xsk")
def test_a_driver_that_may_not_sleep_spins_while_a_program_keeps_its_buffers(
    lab: Lab, machine: guest.Guest, tmp_path: Path
) -> None:
    scenario = ("kept", "--buffers", "512", "--hold", "3", "--spin")
    files = lab.trial(machine, tmp_path, *scenario, traffic=trial.Traffic(rate=1000), alone=True)
    analysis, found = result(files)
    stall = analysis.stalls.nlargest(1, "duration_ns").iloc[0]
    assert stall["cause"] == "program_gave_no_buffer"
    assert min(stall["starved_ns"], stall["spinning_ns"]) > stall["duration_ns"] / 2 > 750_000_000
    assert stall["full_polls"] > 1000 and stall["spin_ns"] > stall["duration_ns"] / 2
    assert found["witness"]["agrees"], found["witness"]["sentence"]
