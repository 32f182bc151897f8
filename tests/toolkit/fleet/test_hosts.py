# SPDX-License-Identifier: GPL-2.0-only
import numpy as np
import pandas as pd
import pytest

from tests.toolkit.fleet.recorded import arrow, copies, fleet_of
from toolkit.compare.metrics import METRICS as RUNS
from toolkit.fleet import findings, hosts
from toolkit.fleet.frames import frames

HOUR_NS = findings.HOUR_NS


def test_a_host_is_one_value_for_each_traced_hour() -> None:
    traces = frames(arrow(copies(["a", "a", "b", None], only="stock/001"))).traces
    found = hosts.per_host(traces)
    assert found.index.tolist() == ["a", "b"]
    assert found["traces"].tolist() == [2, 1]
    # Twice the traces of the same kind are no twice the silence.
    assert found.loc["a", "stalled_ns_per_h"] == pytest.approx(found.loc["b", "stalled_ns_per_h"])
    one = traces.iloc[0]
    assert found.loc["b", "stalled_ns_per_h"] == pytest.approx(
        one["stalled_ns"] / one["duration_ns"] * HOUR_NS
    )
    assert found.loc["b", "longest_ns"] == one["longest_ns"]


def test_what_one_trace_does_not_know_is_not_known_of_its_host() -> None:
    traces = frames(arrow(copies(["a", "a", "b"], only="stock/001"))).traces
    traces.loc[traces.index[0], "silent_ns"] = pd.NA
    found = hosts.per_host(traces)
    assert found["silent_ns_per_h"].isna().tolist() == [True, False]


def test_metrics_rule_as_those_of_runs_do() -> None:
    roles = {metric.name: metric.role for metric in RUNS}
    for metric in hosts.METRICS:
        column = metric.name.removesuffix(hosts.PER_HOUR)
        # The longest of several traces grows with their number.
        assert metric.role == ("informs" if column == "longest_ns" else roles[column])


def test_a_host_far_beyond_the_rest_is_an_outlier() -> None:
    silent = findings.silent(frames(arrow(fleet_of(60, 600))), "host")
    found, rule = hosts.outliers(silent)
    assert found["host"].tolist() == ["host-0001"]
    assert found["silence_ns_per_h"].iloc[0] > rule["fence"].iloc[0] > rule["upper"].iloc[0]
    assert found["times"].iloc[0] > 10
    # One bad trace is an event.
    once = silent.assign(silent=silent["silent"].where(silent["host"] != "host-0001", 1))
    assert hosts.outliers(once)[0].empty


def test_of_equal_hosts_none_is_an_outlier() -> None:
    chance = np.random.default_rng(3)
    values = np.exp(chance.normal(0, 1, 5000))
    silent = pd.DataFrame({"host": [f"h{i}" for i in range(5000)], "silence_ns": 1, "silent": 9})
    assert hosts.outliers(silent.assign(silence_ns_per_h=values))[0].empty
    assert hosts.outliers(silent.assign(silence_ns_per_h=1.0))[0].empty


def test_of_few_silent_hosts_none_is_called_usual() -> None:
    silent = findings.silent(frames(arrow(copies(list("abcdefg"), stalls=[1] * 6 + [99]))), "host")
    found, rule = hosts.outliers(silent)
    assert found.empty and pd.isna(rule["fence"].iloc[0]) and rule["hosts"].iloc[0] == 7
