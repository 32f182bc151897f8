# SPDX-License-Identifier: GPL-2.0-only
import pandas as pd
import pytest

from tests.conftest import S, runs_of
from toolkit.compare.statistics import measure
from toolkit.compare.verdict import CANNOT_SAY, IMPROVED, NO_DIFFERENCE, WORSE, Side, decide, judge

LOW, HIGH = [1.0, 2, 3, 4, 5], [11.0, 12, 13, 14, 15]
SPIN = [each * S for each in range(1, 6)]


def _judge(base: pd.DataFrame, candidate: pd.DataFrame, aside: int = 0) -> tuple[str, str]:
    """:return: verdict and sentence; so many runs of the candidate were set aside."""
    sides = [
        Side(name, None, name, None, len(runs), lost, int((runs["stalls"] > 0).sum()))
        for name, runs, lost in (("stock", base, 0), ("patched", candidate, aside))
    ]
    return judge(measure(base, candidate), *sides)


def test_shorter_stalls_are_an_improvement() -> None:
    verdict, sentence = _judge(runs_of(HIGH), runs_of(LOW))
    assert verdict == IMPROVED
    assert "stalled time fell from a median of 13.000 s to 3.000 s (95 %: -" in sentence
    assert "adjusted p = 0.0079), and so did longest stall, refused frames" in sentence
    assert sentence.endswith("5 of 5 runs of stock stalled, 5 of 5 of patched.")


def test_what_became_much_worse_is_said_whatever_the_verdict() -> None:
    many = runs_of(LOW, stalls=[154, 160, 150, 140, 170], failed=[3] * 5)
    verdict, sentence = _judge(runs_of(HIGH, stalls=[4, 5, 3, 4, 6], failed=[2] * 5), many)
    assert verdict == IMPROVED
    # Half as much again is not much.
    assert " But stalls rose from a median of 4 to 154. 5 of 5 runs of stock stalled" in sentence
    fewer = _judge(runs_of(HIGH, stalls=[4, 5, 3, 4, 6]), runs_of(LOW, stalls=1))[1]
    assert "But" not in fewer


def test_improvement_says_how_often_a_stall_may_still_be() -> None:
    verdict, sentence = _judge(runs_of(HIGH), runs_of([0] * 5))
    assert verdict == IMPROVED
    assert "0 of 5 of patched; up to 52% of its runs may stall all the same" in sentence


def test_longer_stalls_are_worse() -> None:
    verdict, sentence = _judge(runs_of(LOW), runs_of(HIGH))
    assert verdict == WORSE
    assert "stalled time rose from a median of 3.000 s to 13.000 s" in sentence


def test_no_difference_says_what_is_not_excluded() -> None:
    verdict, sentence = _judge(runs_of([1, 2, 3, 4, 5]), runs_of([1.5, 2.5, 3.5, 4.5, 5.5]))
    assert verdict == NO_DIFFERENCE
    assert "does not make them equal. Changes of the median not excluded (95 %): stalled time -" in sentence
    assert "s to +" in sentence


def test_no_difference_where_nothing_stalled() -> None:
    verdict, sentence = _judge(runs_of([0] * 5), runs_of([0] * 6))
    assert verdict == NO_DIFFERENCE
    assert "nothing to cure; up to 52% of the runs may stall all the same" in sentence


def test_few_runs_are_enough_where_all_end_deaf_or_none() -> None:
    deaf, cured = runs_of(HIGH[:3], open=[1] * 3), runs_of(LOW[:3], open=[0] * 3)
    verdict, sentence = _judge(deaf, cured)
    assert verdict == IMPROVED
    assert sentence.startswith(
        "From stock to patched (3 and 3 runs) open stalls fell from a median of 1 to 0 ("
    )
    assert _judge(cured, deaf)[0] == WORSE


def test_few_runs_cannot_exclude_that_a_cure_spins() -> None:
    deaf, spinning = runs_of(HIGH[:3], open=[1] * 3), runs_of(LOW[:3], open=[0] * 3, spin_ns=SPIN[:3])
    assert _judge(deaf, spinning)[0] == CANNOT_SAY


def test_too_few_runs_say_how_many_would_do() -> None:
    verdict, sentence = _judge(runs_of(HIGH[:3]), runs_of(LOW[:3]))
    assert verdict == CANNOT_SAY
    assert sentence.startswith("3 runs of stock and 3 of patched are too few")
    assert "at least 5 of each. Seen so far: stalled time from a median of 12.000 s to 2.000 s." in sentence


def test_set_without_usable_runs_has_too_few() -> None:
    assert _judge(runs_of(HIGH), runs_of([]))[0] == CANNOT_SAY


@pytest.mark.parametrize(("aside", "verdict"), [(1, IMPROVED), (2, CANNOT_SAY)])
def test_too_many_set_aside(aside: int, verdict: str) -> None:
    found, sentence = _judge(runs_of(HIGH), runs_of(LOW), aside)
    assert found == verdict
    assert ("2 of 7 runs of patched had to be set aside" in sentence) == (aside == 2)


def test_a_spin_in_the_place_of_a_stall_is_no_cure() -> None:
    verdict, sentence = _judge(runs_of(HIGH), runs_of([0] * 5, spin_ns=SPIN))
    assert verdict == CANNOT_SAY
    assert "traded for another: stalled time fell" in sentence
    assert "but spin time rose from a median of 0.000 s to 3.000 s" in sentence
    assert "that is no cure" in sentence


def test_a_spin_without_a_gain_is_worse() -> None:
    verdict, sentence = _judge(runs_of(LOW), runs_of(LOW, spin_ns=SPIN))
    assert verdict == WORSE
    assert "spin time rose" in sentence


def test_less_spin_alone_is_no_cure_either() -> None:
    assert _judge(runs_of(LOW, spin_ns=SPIN), runs_of(LOW))[0] == NO_DIFFERENCE


def test_fewer_failed_refills_alone_only_inform() -> None:
    base, candidate = runs_of(LOW, failed=[9] * 5), runs_of(LOW, failed=[0] * 5)
    metrics = measure(base, candidate)
    assert metrics.loc["failed", "significant"]
    assert decide(metrics, 5, 5) == NO_DIFFERENCE


def test_means_where_medians_hide_the_change() -> None:
    # 20 of 50 runs with an open stall, and none: both medians are 0.
    verdict, sentence = _judge(runs_of([1] * 50, open=[1] * 20 + [0] * 30), runs_of([1] * 50))
    assert verdict == IMPROVED
    assert "open stalls fell from a mean of 0.4 to 0" in sentence
