# SPDX-License-Identifier: GPL-2.0-only
"""aoe against a real target: its pool of skbs, what happens when it is exhausted, and what makes it go on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import toolkit
from tests.machine.harness.lab import Lab, result
from toolkit.event import NOT_KNOWN
from toolkit.stalls.analysis import Analysis
from toolkit.trace.reader import TraceReader
from vm import guest

#: More skbs than there are frames without a pool, and fewer than the pool takes, on a host of any speed: a
#: request needs 64 and begins 200 ms after the one before, so at most three are within the 400 ms.
SLOW_NIC = ("held", "--delay", "400", "--pause", "200", "--before", "3", "--hold", "5", "--after", "3")
#: More than the pool takes, until they are let go.
EXHAUSTION = ("held", "--skbs", "300", "--before", "3", "--hold", "4", "--after", "4")
#: The pool's first skb.
ONE_HELD = ("held", "--skbs", "1", "--before", "3", "--hold", "5", "--after", "4")


pytestmark = pytest.mark.machine("aoe")


@pytest.fixture
def machine(lab: Lab) -> Iterator[guest.Guest]:
    found = lab.boot("aoe")
    yield found
    # One that hangs goes on, or the next test would find it so.
    if found.alive():
        found.module("vm.aoe poke", timeout=60)


def run(
    lab: Lab,
    machine: guest.Guest,
    out: Path,
    *scenario: str,
    options: tuple[str, ...] = (),
    alone: bool = False,
) -> tuple[Analysis, dict[str, Any], dict[str, Any]]:
    """Return what a trial's trace shows, its summary with the witness, and the witness's account."""
    files = lab.trial(machine, out, *scenario, options=options, alone=alone)
    return *result(files), json.loads(files.witness.read_text())


def check_content(machine: guest.Guest) -> None:
    """Writes to the disk, and reads it back."""
    job = "--name=io --filename=/dev/etherd/e1.1 --direct=1 --rw=randwrite --bs=16k --size=2m --verify=crc32c"
    machine.ssh(f"cd /var/tmp && sudo fio {job} --do_verify=1", check=True, timeout=120)


def pool(analysis: Analysis) -> tuple[Any, Any]:
    """:return: [ns] when somebody looked, and the skbs that were in the pool, by time."""
    seen = [columns for columns, _ in TraceReader(analysis.path)]
    ts, posted = (np.concatenate([each[name] for each in seen]) for name in ("ts", "posted_after"))
    known = posted != NOT_KNOWN
    order = np.argsort(ts[known], kind="stable")
    return ts[known][order].astype(np.int64), posted[known][order]


def test_aoe_is_fully_observable(machine: guest.Guest) -> None:
    done = machine.ssh("sudo toolkit doctor aoe")
    assert done.returncode == 0, done.stdout
    assert "aoe: fully observable" in done.stdout, done.stdout
    assert "devices: eth1" in done.stdout
    check_content(machine)


def test_a_nic_that_is_slow_to_clean_up_grows_the_pool(
    lab: Lab, machine: guest.Guest, tmp_path: Path
) -> None:
    lab.load(machine, "stock")
    analysis, found, account = run(
        lab, machine, tmp_path, *SLOW_NIC, options=("--detail", "full"), alone=True
    )
    assert (found["variant"], found["regime"]) == ("stock", "kicked by the timer")
    # With full detail a wait of a moment is one, too.
    assert analysis.stalls["duration_ns"].sum() < 100_000_000
    assert found["witness"]["agrees"], found["witness"]["sentence"]
    # Exactly the frames that the driver counted itself, and those by which it identified the disk.
    sent = int(analysis.queues["packets"].sum())
    assert account["frames"] <= sent <= account["frames"] + 3
    times, skbs = pool(analysis)
    assert skbs[0] < skbs[-1] < 256
    # The pool only grows: what debugfs showed lies between what was traced before the look and after it.
    # It is shown without the driver's lock (aoe_debugfs_show): one less while one is swapped (skb_pool_get).
    for began, ended, seen, *_ in account["pool"]:
        before, after = skbs[times < began], skbs[times > ended]
        assert all(before[-1:] <= seen + 1) and all(seen <= after[:1]), (began, ended, seen)
    # fio's own latencies are of the same requests, and are a few calls longer or shorter.
    (requests,) = found["tables"]["requests"]
    fio = account["fio"]["read"]
    events = toolkit.read(analysis.path).events
    took = np.sort(events["dur"][events["kind"] == "request"])
    assert requests["count"] == len(took) and requests["p50_ns"] == pytest.approx(np.median(took), abs=1)
    other = abs(len(took) - fio["requests"])
    assert other <= 5
    # fio's median is one of some 40 requests (a bin of its stat.h, to 1/64), and not between two of them.
    middle = (fio["requests"] - 1) // 2
    assert took[middle - other] <= fio["p50_ns"] * 1.05
    assert took[middle + other] > fio["p50_ns"] * 0.8


def test_a_pool_that_is_exhausted_stops_stock_for_ever(
    lab: Lab, machine: guest.Guest, tmp_path: Path
) -> None:
    lab.load(machine, "stock")
    analysis, found, account = run(lab, machine, tmp_path, *EXHAUSTION)
    *_, stall = analysis.stalls.to_dict("records")
    assert (stall["state"], stall["open"]) == ("blocked", True)
    assert stall["posted"] == max(skbs for _, _, skbs, *_ in account["pool"]) == 256
    assert stall["cause"] in ("pool_held", "pool_first_held")
    # The skbs were let go, the driver's timer ran on, and nobody looked for a frame again.
    assert stall["relieved_ns"] > 0
    events = toolkit.read(analysis.path).events
    looks = events[events["kind"] == "timer"]
    assert len(looks) > 50
    kicked = looks["flags"].str.contains("kick").astype(bool)
    kicks = looks.loc[(looks["ts"] >= stall["start_ns"]) & kicked, "ts"]
    assert len(kicks) == 1 <= account["pool"][-1][-1] - account["pool"][0][-1]
    # Responses that were still to come when it began are the last to look.
    assert events.loc[events["ts"] > kicks.iloc[0], ["polls", "refills", "irqs"]].to_numpy().sum() == 0
    assert found["witness"]["agrees"], found["witness"]["sentence"]
    assert account["fio"] is None and account["gaps"][-1]["open"]
    # Who begins to trace now finds that it hangs, by the timer alone.
    later = toolkit.read(lab.trial(machine, tmp_path / "later", seconds=4, alone=True).trace)
    (stall,) = later.stalls.to_dict("records")
    assert (stall["state"], stall["open"], stall["cause"]) == ("blocked", True, "before_trace")
    assert stall["duration_ns"] > 3_000_000_000
    # Any other request frees those that wait.
    machine.module("vm.aoe poke", timeout=60)
    machine.ssh("timeout 20 sh -c 'while pgrep -x fio; do sleep 0.2; done'", check=True)
    check_content(machine)


@pytest.mark.parametrize(
    "load",
    [
        ("--rw", "randread"),
        pytest.param(("--rw", "randwrite", "--size", "4", "--threads", "4"), marks=pytest.mark.slow),
        pytest.param(("--rw", "randread", "--by", "socket"), marks=pytest.mark.slow),
    ],
    ids=["reads", "writes of four threads", "a socket"],
)
def test_with_a_timer_that_looks_it_goes_on(
    lab: Lab, machine: guest.Guest, tmp_path: Path, load: tuple[str, ...]
) -> None:
    lab.load(machine, "patched")
    analysis, found, account = run(lab, machine, tmp_path, *EXHAUSTION, *load)
    assert found["variant"] == "patched"
    assert not analysis.stalls["open"].any()
    longest = analysis.stalls.sort_values("duration_ns").iloc[-1]
    assert longest["state"] == "blocked"
    # Until they were let go, and a timer's tick.
    phases = json.loads((analysis.path.parent / "phases.json").read_text())["phases"]
    (let_go,) = (phase for phase in phases if phase["name"] == "let go")
    assert let_go["start_ns"] < longest["end_ns"] < let_go["end_ns"] + 1_000_000_000
    assert found["witness"]["agrees"], found["witness"]["sentence"]
    assert account["fio"] is not None
    check_content(machine)


@pytest.mark.parametrize("variant", ["stock", "walk"])
def test_one_held_skb_uses_up_the_pool_unless_it_is_walked(
    lab: Lab, machine: guest.Guest, tmp_path: Path, variant: str
) -> None:
    lab.load(machine, variant)
    analysis, found, account = run(lab, machine, tmp_path, *ONE_HELD)
    assert found["variant"] == variant
    most = max(skbs for _, _, skbs, *_ in account["pool"])
    if variant == "stock":
        assert most == 256
        assert bool(analysis.stalls["open"].iloc[-1])
        assert account["fio"] is None
        machine.module("vm.aoe poke", timeout=60)
        machine.ssh("timeout 20 sh -c 'while pgrep -x fio; do sleep 0.2; done'", check=True)
    else:
        # As many as the network holds at a time, and no more.
        assert most < 256
        assert not analysis.stalls["open"].any()
        assert analysis.stalls["duration_ns"].sum() < 1_000_000_000
        assert account["fio"] is not None
    assert found["witness"]["agrees"], found["witness"]["sentence"]
    check_content(machine)


def test_without_the_pool_it_stops_where_stock_goes_on(
    lab: Lab, machine: guest.Guest, tmp_path: Path
) -> None:
    lab.load(machine, "unfixed")
    analysis, found, account = run(lab, machine, tmp_path, *SLOW_NIC)
    assert found["variant"] == "unfixed"
    *_, stall = analysis.stalls.to_dict("records")
    assert (stall["state"], stall["open"]) == ("blocked", True)
    assert stall["cause"] == "skbs_held"
    assert {skbs for _, _, skbs, *_ in account["pool"]} == {0}
    assert found["witness"]["agrees"], found["witness"]["sentence"]
