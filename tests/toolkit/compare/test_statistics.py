# SPDX-License-Identifier: GPL-2.0-only
from math import comb
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import S, runs_of
from toolkit.compare.statistics import (
    ALPHA,
    FEWEST_RESAMPLES,
    RESAMPLES,
    enough,
    measure,
    needed,
    resamples,
)

LOW, HIGH = [1.0, 2, 3, 4, 5], [11.0, 12, 13, 14, 15]


def _metric(found: pd.DataFrame, name: str = "stalled_ns") -> Any:
    """:return: the row of a metric."""
    return found.loc[name]


def _stalled(base: list[float], candidate: list[float]) -> Any:
    return _metric(measure(runs_of(base), runs_of(candidate, "patched")))


def test_medians_and_their_difference() -> None:
    found = _stalled(HIGH, LOW)
    assert (found["base_median"], found["candidate_median"], found["difference"]) == (13 * S, 3 * S, -10 * S)
    assert found["ratio"] == pytest.approx(3 / 13)
    assert -14 * S <= found["difference_low"] < -10 * S < found["difference_high"] <= -6 * S
    assert 1 / 15 <= found["ratio_low"] < 3 / 13 < found["ratio_high"] <= 5 / 11


def test_sets_that_are_wholly_apart_have_the_smallest_exact_p() -> None:
    found = _stalled(HIGH, LOW)
    assert found["p"] == pytest.approx(2 / comb(10, 5))
    assert found["significant"]
    assert found["direction"] == "lower"
    assert _stalled(LOW, HIGH)["direction"] == "higher"


def test_p_is_corrected_among_the_metrics_that_vary() -> None:
    # stalled, longest and refused have one p; spin time varies and differs by nothing.
    base, candidate = runs_of(HIGH, spin_ns=[0, 1, 0, 0, 0]), runs_of(LOW, "patched", spin_ns=[1, 0, 0, 0, 0])
    found = measure(base, candidate)
    stalled = _metric(found)
    assert stalled["p_adjusted"] == pytest.approx(stalled["p"] * 4 / 3)
    assert _metric(found, "spin_ns")["p_adjusted"] == 1
    # A metric that only informs is not among them.
    informed = measure(base.assign(failed=range(5)), candidate)
    assert _metric(informed)["p_adjusted"] == stalled["p_adjusted"]


def test_three_runs_that_end_deaf_and_three_that_do_not_differ() -> None:
    found = measure(runs_of(HIGH[:3], open=[1, 1, 2]), runs_of(LOW[:3], "patched", open=[0, 0, 0]))
    # Barnard's worst case: were either end as likely as the other, two of the 64 outcomes are so far apart.
    assert _metric(found, "open")["p_adjusted"] == pytest.approx(2 / 64)
    assert _metric(found, "open")["significant"]
    assert not _metric(found)["significant"]


def test_whether_runs_end_deaf_is_tested_alone() -> None:
    base, candidate = (
        runs_of(HIGH, name, open=each) for name, each in (("a", [1, 0] * 2 + [0]), ("b", [0] * 5))
    )
    found = measure(base, candidate)
    assert _metric(found, "open")["p_adjusted"] == _metric(found, "open")["p"] > ALPHA


def test_what_is_the_same_in_all_runs_is_not_tested() -> None:
    found = _metric(measure(runs_of(LOW), runs_of(HIGH, "patched")), "open")
    assert not found["varies"]
    assert not found["significant"]
    assert found[["p", "p_adjusted", "difference_low", "ratio"]].isna().all()


def test_no_ratio_to_a_median_of_zero() -> None:
    found = _stalled([0, 0, 0, 0, 5], LOW)
    assert found[["ratio", "ratio_low", "ratio_high"]].isna().all()
    assert found["difference"] == 3 * S


def test_a_ratio_whose_base_may_be_zero_has_no_upper_end() -> None:
    found = _stalled([0, 0, 3, 4, 5], [1, 2, 3, 4, 5])
    assert found["ratio"] == 1
    assert pd.isna(found["ratio_high"])


def test_what_a_run_does_not_know_is_not_compared() -> None:
    found = measure(runs_of(LOW), runs_of(HIGH, "patched", refused=[0.1, None, 0.1, 0.1, 0.1]))
    assert "refused" not in found.index


def test_order_does_not_matter_and_nothing_is_left_to_chance() -> None:
    chance = np.random.default_rng(1)
    base, candidate = (runs_of(list(chance.lognormal(0, 1, 12)), name) for name in ("stock", "patched"))
    once = measure(base, candidate)
    pd.testing.assert_frame_equal(once, measure(base, candidate), check_exact=True)
    pd.testing.assert_frame_equal(once, measure(base[::-1], candidate[::-1]), check_exact=True)


@pytest.mark.parametrize(("base", "candidate"), [(0, 0), (0, 3), (1, 1), (1, 5)])
def test_few_runs_have_neither_p_nor_interval(base: int, candidate: int) -> None:
    found = measure(runs_of(LOW[:base]), runs_of(HIGH[:candidate], "patched"))
    assert found[["p", "difference_low", "difference_high"]].isna().all(axis=None)
    assert not found["significant"].any()


def test_how_many_runs_are_enough() -> None:
    metrics = measure(runs_of(LOW), runs_of(HIGH, "patched"), intervals=False)
    assert needed(metrics) == 5
    assert not enough(4, 4, metrics)
    assert enough(4, 6, metrics)
    assert not enough(1, 1000, metrics)
    # That is: one metric of four that separates the sets wholly, where the others vary.
    alone: dict[str, Any] = {name: [0, 1, 0, 1, 0] for name in ("longest_ns", "refused", "spin_ns")}
    found = measure(runs_of(LOW, **alone), runs_of(HIGH, "patched", **alone), intervals=False)
    assert _metric(found)["p_adjusted"] == pytest.approx(4 * 2 / comb(10, 5))
    assert _metric(found)["p_adjusted"] <= ALPHA


@pytest.mark.long
def test_equal_sets_rarely_differ() -> None:
    chance, rounds = np.random.default_rng(7), 100
    runs = runs_of([1.0] * 12)
    different = 0
    for _ in range(rounds):
        stalled, spin = chance.lognormal(1, 1, 12), (chance.exponential(1, 12) * S).astype(int)
        nanoseconds = np.rint(stalled * S).astype(int)
        columns = {"stalled_ns": nanoseconds, "longest_ns": nanoseconds, "refused": stalled / 60}
        both = runs.assign(**columns, spin_ns=spin, open=chance.integers(0, 2, 12))
        different += int(measure(both[:6], both[6:], intervals=False)["significant"].any())
    # Of open stalls, of what else decides, and of what informs: at most ALPHA each.
    assert different <= 3 * ALPHA * rounds


def test_pairs_are_compared_with_themselves() -> None:
    # Runs that differ far more from each other than before from after.
    base, candidate = (
        runs_of([1.0, 10, 100, 1000, 10000, 5]),
        runs_of([0.9, 9, 90, 900, 9000, 4.5], "patched"),
    )
    found = measure(base, candidate, paired=True)
    assert _metric(found)["p"] == pytest.approx(2 / 2**6)
    assert _metric(found)["direction"] == "lower"
    assert not _metric(measure(base, candidate))["significant"]
    order = [3, 1, 5, 0, 2, 4]
    shuffled = measure(base.iloc[order], candidate.iloc[order], paired=True)
    pd.testing.assert_frame_equal(found, shuffled, check_exact=True)
    assert not measure(base, base, paired=True)["significant"].any()


def test_pairs_that_do_not_change_have_no_direction() -> None:
    # One of six rose and one fell by as much.
    base, candidate = runs_of([5.0, 5, 5, 5, 5, 5]), runs_of([5.0, 5, 5, 5, 4, 6])
    assert _metric(measure(base, candidate, paired=True))["direction"] == "same"
    assert _metric(measure(base, candidate, paired=True))["p"] == 1


def test_differences_of_means() -> None:
    # The medians of runs of which most are 0 say nothing.
    base, candidate = runs_of([0, 0, 0, 0, 0, 8.0, 8]), runs_of([0, 0, 0, 0, 0, 1.0, 1], "patched")
    found = _metric(measure(base, candidate, of="mean"))
    assert (found["difference"], found["ratio"]) == (-2 * S, 1 / 8)
    assert -6 * S < found["difference_low"] < -2 * S < found["difference_high"] < S
    medians = _metric(measure(base, candidate))
    assert medians["difference"] == 0 and pd.isna(medians["ratio"])
    assert medians["p"] == found["p"]


def test_how_many_pairs_are_enough() -> None:
    metrics = measure(runs_of(LOW), runs_of(HIGH, "patched"), intervals=False)
    number = needed(metrics, paired=True)
    tested = int(((metrics["role"] != "informs") & (metrics.index != "open")).sum())
    assert 2 * tested / 2**number <= ALPHA < 2 * tested / 2 ** (number - 1)
    assert enough(10_000, 10_000, metrics) and enough(10_000, 10_000, metrics, paired=True)


def test_of_very_many_values_fewer_resamples_are_drawn() -> None:
    assert resamples(10) == resamples(1000) == RESAMPLES
    assert resamples(10**9) == FEWEST_RESAMPLES
