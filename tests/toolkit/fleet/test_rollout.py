# SPDX-License-Identifier: GPL-2.0-only
"""Rollouts made of recorded runs: each host has runs of its own, and longer or shorter stalls."""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import MS
from tests.toolkit.fleet.recorded import arrow, copies
from toolkit.compare import statistics
from toolkit.compare.statistics import ALPHA, measure
from toolkit.compare.verdict import CANNOT_SAY, IMPROVED, NO_DIFFERENCE, WORSE, decide
from toolkit.errors import UserError
from toolkit.fleet.frames import frames
from toolkit.fleet.hosts import METRICS, per_host
from toolkit.fleet.rollout import compare

STOCK = "virtio_net_variants/stock"


@cache
def _fleet(hosts: int, seed: int = 5) -> pd.DataFrame:
    """Return traces of hosts: three to eleven of each, from recorded runs, longer or shorter by host."""
    chance = np.random.default_rng(seed)
    of = np.repeat(np.arange(hosts), chance.integers(3, 12, hosts))
    longer = list(np.exp(chance.normal(0, 1, hosts))[of])
    names = [f"host-{host:03}" for host in of]
    return frames(arrow(copies(names, seed=seed, only=STOCK, stalls=longer, silences=longer))).traces


def _rolled_out(traces: pd.DataFrame, factor: float, share: int = 3) -> pd.DataFrame:
    """Return the traces with every third host on another build, whose stalls are longer by a factor."""
    new = traces["host"].astype(str).str[-3:].astype(int) % share == 0
    stalls = {
        name: traces[name].where(~new, (traces[name] * factor).round().astype("Int64"))
        for name in ("stalled_ns", "longest_ns")
    }
    return traces.assign(build=np.where(new, "new", "old"), **stalls)


def test_a_third_of_the_hosts_with_halved_stalls_is_improved() -> None:
    found = compare(_rolled_out(_fleet(240), 0.5), "build=old", "build=new")
    assert (found.before.hosts, found.after.hosts, found.paired) == (160, 80, False)
    assert found.verdict == IMPROVED
    stalled: Any = found.metrics.loc["stalled_ns_per_h"]
    assert stalled["ratio_low"] < 0.5 < stalled["ratio_high"] < 1
    assert compare(_rolled_out(_fleet(240), 2), "build=old", "build=new").verdict == WORSE


def test_hosts_that_are_in_both_sets_are_compared_with_themselves() -> None:
    traces = _fleet(20).assign(day=pd.Timestamp("2026-11-01"))
    later = traces.assign(day=pd.Timestamp("2026-11-09"), place=traces["place"].astype(str) + "-later")
    halved = {name: (later[name] / 2).round().astype("Int64") for name in ("stalled_ns", "longest_ns")}
    both = pd.concat([traces, later.assign(**halved)], ignore_index=True)
    found = compare(both, "day<2026-11-05", "day>=2026-11-05")
    assert found.paired and found.verdict == IMPROVED
    stalled: Any = found.metrics.loc["stalled_ns_per_h"]
    assert stalled["ratio"] == pytest.approx(0.5)
    assert "of different days" in found.caveats[0]
    # As other hosts they are as far apart, and it is less sure: hosts differ much.
    late = both["day"] > pd.Timestamp("2026-11-05")
    others = both.assign(host=both["host"].astype(str) + np.where(late, "b", ""))
    unpaired = compare(others, "day<2026-11-05", "day>=2026-11-05")
    assert not unpaired.paired
    assert unpaired.metrics.loc["stalled_ns_per_h", "p"] > 10 * stalled["p"]
    assert unpaired.metrics.loc["stalled_ns_per_h", "ratio_high"] > stalled["ratio_high"]


def test_where_most_hosts_never_stall_means_are_compared() -> None:
    traces = _rolled_out(_fleet(240), 0.5)
    calm = traces["host"].astype(str).str[-1].isin(list("0123456"))
    quiet = {name: traces[name].where(~calm, 0) for name in ("stalled_ns", "longest_ns", "stalls")}
    found = compare(traces.assign(**quiet), "build=old", "build=new")
    stalled: Any = found.metrics.loc["stalled_ns_per_h"]
    assert found.of == "mean" and stalled["base_median"] == 0
    assert stalled["difference"] < 0
    assert compare(traces, "build=old", "build=new", intervals=False).of == "median"


def test_few_hosts_in_both_sets_are_left_out() -> None:
    traces = _rolled_out(_fleet(30), 1)
    moved = traces.index[traces["host"] == "host-001"][:2]
    traces.loc[moved, "build"] = "new"
    found = compare(traces, "build=old", "build=new", intervals=False)
    assert not found.paired
    assert (found.before.left_out, found.after.left_out) == (1, 1)
    assert "host-001" not in found.hosts["host"].to_numpy()


def test_what_cannot_be_trusted_is_set_aside() -> None:
    traces = _rolled_out(_fleet(30), 1)
    traces.loc[traces.index[:5], "dropped"] = 1
    found = compare(traces, "build=old", "build=new", intervals=False)
    aside = [side.set_aside.get("events were dropped", 0) for side in found.sides]
    assert sum(aside) == 5 and found.verdict != CANNOT_SAY
    unknown = traces.assign(host=traces["host"].where(traces["build"] == "old"))
    found = compare(unknown, "build=old", "build=new", intervals=False)
    assert found.verdict == CANNOT_SAY
    assert "the host is not known" in found.why


def test_few_hosts_cannot_say() -> None:
    assert compare(_rolled_out(_fleet(6), 0.01), "build=old", "build=new").verdict == CANNOT_SAY


def test_what_else_differs_is_said() -> None:
    traces = _rolled_out(_fleet(30), 1)
    traces["kernel"] = np.where(traces["build"] == "new", "6.12", "6.1")
    found = compare(traces, "build=old", "build=new", intervals=False)
    assert found.caveats == ["The sets differ in kernel, too: before 6.1; after 6.12."]
    longer = traces.assign(silence_over_ns=np.where(traces["build"] == "new", 50 * MS, 10 * MS))
    assert compare(longer, "build=old", "build=new", intervals=False).caveats[1:] == [
        "The sets were analyzed by different thresholds, silence_over_ns: before 10 ms; after 50 ms."
    ]
    assert not compare(traces, "kernel=6.1", "kernel=6.12", intervals=False).caveats[0].count("kernel")
    unknown = traces.assign(silent_ns=traces["silent_ns"].where(traces["host"] != "host-003"))
    (remark,) = compare(unknown, "build=old", "build=new", intervals=False).remarks
    assert remark.startswith("Not compared, since not every host knows it: silence outside of stalls;")


def test_a_trace_in_both_sets_is_refused() -> None:
    traces = _fleet(30).assign(kernel="6.12.3")
    with pytest.raises(
        UserError, match=r"would be before and after, such as copies/\d+.rxt \(kernel 6.12.3\)"
    ):
        compare(traces, "kernel=6.1*", "kernel=6.12*")


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """How often a test errs does not depend on how many resamples it draws; how long it takes does."""
    monkeypatch.setattr(statistics, "RESAMPLES", statistics.FEWEST_RESAMPLES)


@pytest.mark.long
@pytest.mark.usefixtures("few_resamples")
def test_a_rollout_that_changes_nothing_is_rarely_called_different() -> None:
    traces, rounds = _fleet(240), 400
    hosts = per_host(traces)
    by_trace = per_host(traces.assign(host=traces["place"]))
    host_of = traces.set_index(traces["place"].astype(str))["host"].astype(str).reindex(by_trace.index)
    chance = np.random.default_rng(11)
    different = misled = 0
    for number in range(rounds):
        drawn = chance.permutation(hosts.index.to_numpy())[:60]
        old, new = drawn[:40], drawn[40:]
        found = measure(hosts.loc[old], hosts.loc[new], METRICS, of="mean", intervals=False)
        different += decide(found, 40, 20) != NO_DIFFERENCE
        if number < 50:
            # The same rollout, as if traces of one host were independent: many times as often wrong.
            before, after = (by_trace[host_of.isin(side).to_numpy()] for side in (old, new))
            found = measure(before, after, METRICS, of="mean", intervals=False)
            misled += decide(found, len(before), len(after)) != NO_DIFFERENCE
    assert different <= ALPHA * rounds
    assert misled > 4 * ALPHA * 50


@pytest.mark.long
@pytest.mark.usefixtures("few_resamples")
def test_hosts_that_stayed_as_they_were_are_rarely_called_different() -> None:
    chance, rounds = np.random.default_rng(12), 400
    traces = _fleet(240)
    # Of each host, some traces before and the others after, by chance.
    late = chance.random(len(traces)) < 0.5
    before, after = per_host(traces[~late]), per_host(traces[late])
    both = before.index.intersection(after.index).to_numpy()
    different = 0
    for _ in range(rounds):
        drawn, swapped = chance.permutation(both)[:40], chance.random(40) < 0.5
        first, second = before.loc[drawn].copy(), after.loc[drawn].copy()
        first[swapped], second[swapped] = after.loc[drawn][swapped], before.loc[drawn][swapped]
        found = measure(first, second, METRICS, of="mean", paired=True, intervals=False)
        different += decide(found, 40, 40, paired=True) != NO_DIFFERENCE
    assert different <= ALPHA * rounds
