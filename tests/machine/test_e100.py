# SPDX-License-Identifier: GPL-2.0-only
"""e100 while memory is short: the kernel panics, and with our patch it does not."""

from collections.abc import Callable
from pathlib import Path

import pytest

import toolkit
from tests.machine.harness.lab import Lab, assert_log_is_clean, failed
from toolkit.errors import UserError
from toolkit.stalls.analysis import Analysis
from vm import drivers, guest, outcomes, trial

TRACED, *OPTIONS = drivers.needs("e100").trace
SHORTAGE = ("knob", "--hold", "2", "--after", "3")

pytestmark = pytest.mark.machine("e100")


def starve(
    lab: Lab, machine: guest.Guest, out: Path, reached: Callable[[Analysis], bool] = failed
) -> trial.Files:
    """Keep memory back while the NIC receives, with a tracer of its own."""
    return lab.trial(
        machine,
        out,
        *SHORTAGE,
        traffic=trial.Traffic(rate=4000),
        options=OPTIONS,
        driver=TRACED,
        alone=True,
        reached=reached,
    )


def test_patched_goes_on_when_memory_is_back(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    lab.load(machine, "patched")
    files = starve(lab, machine, tmp_path)
    found = toolkit.read(files.trace, None, files.phases)
    (driver,) = found.meta["drivers"]
    assert (driver["module"], driver["variant"]) == ("e100", "patched")
    # It was over when memory was back.
    assert not found.stalls["open"].any()
    before = received(machine)
    with trial.wire(machine, trial.Traffic(rate=1000), tmp_path / "after.json"):
        machine.ssh("sleep 2", check=True)
    assert received(machine) - before > 500
    assert_log_is_clean(machine)


# The last one: its machine is gone.
def test_stock_panics(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    lab.load(machine, "stock")
    with pytest.raises(UserError):
        # Until it dies.
        starve(lab, machine, tmp_path, reached=lambda _: False)
    with pytest.raises(outcomes.PanicError, match=r"the kernel panicked in e100_poll\+0x\w+/0x\w+ \[e100\]"):
        outcomes.raise_panic(machine, "e100")


def received(machine: guest.Guest) -> int:
    """Return the packets that the driver has counted."""
    return int(machine.ssh("cat /sys/class/net/eth1/statistics/rx_packets", check=True).stdout)
