# SPDX-License-Identifier: GPL-2.0-only
import numpy as np
import pytest

from bench import calibration
from tests.conftest import S, runs_of
from toolkit.errors import UserError


@pytest.mark.long
def test_halves_of_the_same_runs_rarely_differ() -> None:
    runs = runs_of([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    found = calibration.false_verdicts(runs, np.random.default_rng(1), 100)
    assert found.total() == 100
    assert found["improved"] + found["worse"] <= 5


@pytest.mark.long
def test_a_halving_is_seen_in_enough_runs_only() -> None:
    runs = runs_of([8 + number / 10 for number in range(10)])
    assert calibration.power(runs, 5, np.random.default_rng(1), 20) >= 0.8
    assert calibration.power(runs, 3, np.random.default_rng(1), 20) == 0


def test_durations_are_halved_and_nothing_else() -> None:
    runs = runs_of([4], recovery_ns=2 * S, open=1)
    (half,) = calibration.halved(runs).to_dict("records")
    assert (half["stalled_ns"], half["longest_ns"], half["recovery_ns"]) == (2 * S, 2 * S, S)
    assert (half["open"], half["refused"], half["duration_ns"]) == (1, 4 / 60, 60 * S)


def test_runs_must_be_enough_and_of_one_build() -> None:
    with pytest.raises(UserError, match="9 of 10 runs can be trusted"):
        calibration.trusted(runs_of([1] * 10, dropped=[1] + [0] * 9))
    with pytest.raises(UserError, match="not all of one build"):
        calibration.trusted(runs_of([1] * 10, srcversion=["a"] * 9 + ["b"]))
    assert len(calibration.trusted(runs_of([1] * 10))) == 10
