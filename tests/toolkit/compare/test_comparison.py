# SPDX-License-Identifier: GPL-2.0-only
import json
from typing import Any

import pandas as pd
import pytest

from tests.conftest import S, runs_of
from toolkit.compare.comparison import compare, set_aside, summary
from toolkit.compare.verdict import CANNOT_SAY, IMPROVED
from toolkit.errors import UserError

LOW, HIGH = [1.0, 2, 3, 4, 5], [11.0, 12, 13, 14, 15]


def test_a_patch_that_cures() -> None:
    found = compare(runs_of(HIGH), runs_of(LOW, "patched"))
    assert found.verdict == IMPROVED
    assert (found.driver, found.kernel, found.scenario) == ("virtio_net", "6.1.0-test", "pressure")
    assert (found.base.name, found.base.runs, found.candidate.name) == ("stock", 5, "patched")
    assert found.remarks == []


def test_json_is_the_same_every_time_and_has_no_nan() -> None:
    texts = {
        json.dumps(summary(compare(runs_of(HIGH), runs_of([0] * 5, "patched"))), allow_nan=False)
        for _ in range(2)
    }
    (text,) = texts
    found = json.loads(text)
    first = found["metrics"][0]
    assert (first["name"], first["unit"], first["base_median"]) == ("stalled_ns", "ns", 13 * S)
    assert found["metrics"][2]["ratio"] is None
    assert found["base"]["runs"] == 5
    assert found["set_aside"] == []


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("damage", "cut off", "not whole"),
        ("dropped", 3, "events were dropped"),
        ("uncertain", 1, "touches dropped events"),
        ("witness_agrees", False, "witness disagrees"),
        ("packets", 0, "nothing was received"),
    ],
)
def test_runs_that_cannot_be_trusted_are_set_aside(column: str, value: Any, reason: str) -> None:
    candidate = runs_of([*LOW, 0], "patched")
    candidate.loc[5, column] = value
    found = compare(runs_of(HIGH), candidate)
    assert found.verdict == IMPROVED
    assert (found.candidate.runs, found.candidate.set_aside) == (5, 1)
    (aside,) = summary(found)["set_aside"]
    assert (aside["set"], aside["trace"]) == ("candidate", "patched/5/trace.rxt")
    assert reason in aside["reason"]


def test_a_run_without_a_witness_or_with_a_stall_and_no_packet_is_kept() -> None:
    assert set_aside(runs_of([1], witness_agrees=None)).isna().all()
    assert set_aside(runs_of([1], packets=0)).isna().all()


def test_comparison_without_usable_runs_cannot_say() -> None:
    found = compare(runs_of(HIGH, dropped=1), runs_of(LOW, "patched"))
    assert found.verdict == CANNOT_SAY
    json.dumps(summary(found), allow_nan=False)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"driver": "qlge"}, "different drivers: qlge, virtio_net"),
        ({"kernel": "6.12"}, "different kernels: 6.1.0-test, 6.12"),
        ({"scenario": "knob"}, "different scenarios: knob, pressure"),
        ({"variant": ["a", "a", "a", "a", "b"]}, "the candidate mixes builds"),
        ({"srcversion": ["1", "1", "1", "1", None]}, r"srcversion 1\), .*srcversion unknown"),
        ({"trace": [f"stock/{number}/trace.rxt" for number in range(5)]}, "is in both sets"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(columns: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        compare(runs_of(HIGH), runs_of(LOW, "patched").assign(**columns))


def test_sets_of_different_thresholds_are_refused() -> None:
    base, candidate = runs_of(HIGH), runs_of(LOW, "patched")
    base.attrs["thresholds"] = {"silence_over_ns": S, "brief_under_ns": S}
    with pytest.raises(UserError, match="the sets were analyzed by different thresholds"):
        compare(base, candidate)
    candidate.attrs |= base.attrs
    found = compare(base, candidate)
    assert found.remarks == [
        "Thresholds: a silence lasts 1 s or longer (default: 10 ms); a stall shorter than 1 s is brief "
        "(default: 10 ms)."
    ]
    assert summary(found)["thresholds"] == base.attrs["thresholds"]


def test_empty_sets_are_refused() -> None:
    with pytest.raises(UserError, match="at least one run"):
        compare(runs_of(HIGH), runs_of([]))


def test_a_scenario_that_is_not_known_is_no_other() -> None:
    assert compare(runs_of(HIGH), runs_of(LOW, "patched", scenario=None)).scenario == "pressure"


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (("runs/before", "runs/after"), ("before", "after")),
        (("a.rxt", "b.rxt"), ("a", "b")),
        (("x/trace.rxt", "y/trace.rxt"), ("x", "y")),
        (("runs", "runs"), ("base", "candidate")),
        ((None, None), ("base", "candidate")),
    ],
)
def test_sets_of_one_variant_are_named_by_their_paths(paths: tuple[Any, Any], names: tuple[str, str]) -> None:
    sets = [runs_of(HIGH, trace=[f"{each}{number}" for number in range(5)]) for each in "ab"]
    for runs, path in zip(sets, paths, strict=True):
        if path:
            runs.attrs["path"] = path
    found = compare(*sets)
    assert (found.base.name, found.candidate.name) == names


def test_a_driver_has_its_own_word_for_what_was_refused() -> None:
    found = compare(runs_of(HIGH, driver="aoe"), runs_of(LOW, "patched", driver="aoe"))
    assert found.metrics.loc["refused", "title"] == "requests without an end"
    assert found.sentence.count("requests without an end") == 1


def test_remarks_say_what_differs_besides() -> None:
    candidate = runs_of(LOW, "patched", refused=None, open=[1, 0, 0, 0, 0], duration_ns=90 * S)
    unknown, longer, lower_bound = compare(runs_of(HIGH), candidate).remarks
    assert "refused frames" in unknown
    assert "60.0 s, of patched 90.0 s" in longer
    assert lower_bound.startswith("1 stall had not ended")


def test_another_load_is_a_caveat() -> None:
    base = runs_of(HIGH, rate=600.0, size=60.0)
    found = compare(base, runs_of(LOW, "patched", rate=6000.0, size=1500.0))
    assert found.caveats == [
        "The runs differ in more than the build: the load: 600 a second of 60 bytes in stock; "
        "6,000 a second of 1,500 bytes in patched. A difference of the stalls may come of that."
    ]
    assert summary(found)["caveats"] == found.caveats
    assert compare(base, runs_of(LOW, "patched", rate=600.0, size=60.0)).caveats == []
    (unknown,) = compare(base, runs_of(LOW, "patched")).caveats
    assert "the load: 600 a second of 60 bytes in stock; not known in patched." in unknown
    (mixed,) = compare(base, runs_of(LOW, "patched", rate=[600.0] * 4 + [60.0], size=60.0)).caveats
    assert "60 a second of 60 bytes and 600 a second of 60 bytes in patched" in mixed


def test_other_parameters_of_the_scenario_are_a_caveat() -> None:
    base = runs_of(HIGH, parameters='{"dirty": 750, "hold": 2}')
    (caveat,) = compare(base, runs_of(LOW, "patched", parameters='{"dirty": 900, "hold": 2}')).caveats
    assert "the scenario's parameters: dirty 750 in stock; dirty 900 in patched." in caveat
    assert compare(base, runs_of(LOW, "patched", parameters='{"hold": 2, "dirty": 750}')).caveats == []
    (unknown,) = compare(base, runs_of(LOW, "patched")).caveats
    assert "the scenario's parameters: known in stock; not known in patched." in unknown


def test_the_frames_given_are_left_alone() -> None:
    base = runs_of(HIGH)
    before = base.copy()
    compare(base, runs_of(LOW, "patched"))
    pd.testing.assert_frame_equal(base, before)
