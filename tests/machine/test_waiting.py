# SPDX-License-Identifier: GPL-2.0-only
"""Why frames wait on a real kernel: each reason is told from the others, and an idle queue is not silent."""

import json
import time
from pathlib import Path

import pytest

from tests.machine.harness.lab import Lab, result
from toolkit.report import text
from toolkit.stalls.analysis import analyze
from toolkit.stalls.slow import UNPOLLED
from vm import guest, trial, variants

pytestmark = pytest.mark.machine("virtio-net")

UNSCHEDULED = "unscheduled"
#: Ticks of the clock at which waiting frames are found come 49 times a second (ns).
TICK_NS = 1_000_000_000 // 49


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("virtio-net", marks=pytest.mark.machine("virtio-net")),
        pytest.param("virtio-net-packed", marks=[pytest.mark.machine("virtio-net-packed"), pytest.mark.slow]),
    ],
)
def test_a_lost_interrupt_is_told(lab: Lab, kind: str, tmp_path: Path) -> None:
    """The driver forgets an interrupt, and a worker polls again three seconds later."""
    machine = lab.boot(kind)
    lab.load(machine, "lossy")
    files = lab.trial(machine, tmp_path, "lost", "--hold", "3", traffic=trial.Traffic(rate=2000))
    analysis, found = result(files)
    (stall,) = analysis.stalls[analysis.stalls[f"{UNSCHEDULED}_ns"] > 0].to_dict("records")
    assert (stall["device"], stall["queue"], stall["state"]) == ("eth1", 0, UNSCHEDULED)
    assert (stall["class"], stall["cause"], stall["open"]) == ("stall", "no_interrupt", False)
    # It is found at the next tick; on a busy host the worker comes late.
    assert 3_000_000_000 - 2 * TICK_NS < stall["duration_ns"] < 4_000_000_000
    assert stall["packets"] == 0
    assert "no interrupt came that would have scheduled NAPI" in text.verdict(analysis)
    # The sender saw the same, once the ring was used up.
    assert stall["witness_gap_ns"] > 2_500_000_000
    assert found["witness"]["stalls_compared"] == 1
    assert found["witness"]["agrees"], found["witness"]["sentence"]


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

    analysis = analyze(lab.trial(machine, tmp_path, seconds=1, traffic=traffic, then=pause).trace)
    begin, end = moments
    (queue,) = analysis.queues.to_dict("records")
    assert queue["packets"] > 1000
    assert queue["gap_max_ns"] > 3_500_000_000
    assert analysis.stalls.empty, analysis.stalls.to_string()
    silent = analysis.silences[(analysis.silences["end_ns"] > begin) & (analysis.silences["start_ns"] < end)]
    assert silent.empty, silent.to_string()


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
