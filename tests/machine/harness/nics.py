# SPDX-License-Identifier: GPL-2.0-only
"""A shortage on the machine whose NICs have drivers without probes of their own."""

import json
from pathlib import Path

import pandas as pd

import toolkit
from tests.machine.harness.lab import Lab
from toolkit.traces import Trace
from vm import guest, trial


def starve(
    lab: Lab, machine: guest.Guest, out: Path, driver: str | None = None
) -> tuple[Trace, pd.DataFrame, int]:
    """Keep memory back for 4 s while eth1 (e1000e), of which the witness is, and eth2 (vmxnet3) receive.

    :param driver: to trace, as in Lab.trial.
    :return: the trace with its witness; the longest stall of each device, by device; and how long memory was
        kept back [ns].
    """
    with trial.wire(machine, trial.Traffic(nic=1, rate=1500), out / "eth2.json"):
        files = lab.trial(
            machine,
            out,
            "knob",
            "--hold",
            "4",
            traffic=trial.Traffic(rate=3000),
            options=["-d", "eth1", "-d", "eth2"],
            driver=driver,
            alone=True,
            reached=lambda analysis: set(analysis.stalls["device"]) >= {"eth1", "eth2"},
        )
    found = toolkit.read(files.trace, files.witness, files.phases)
    longest = found.stalls.loc[found.stalls.groupby("device")["duration_ns"].idxmax()].set_index("device")
    hold = next(p for p in json.loads(files.phases.read_text())["phases"] if p["name"] == "hold")
    return found, longest, hold["end_ns"] - hold["start_ns"]
