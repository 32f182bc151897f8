# SPDX-License-Identifier: GPL-2.0-only
from collections.abc import Sequence
from dataclasses import replace

import pytest

import toolkit
from tests.conftest import DATA
from tests.vm.survey.conftest import DEATH
from vm.survey.outcome import Interval, Outcome, states


def test_deaf_nic_and_one_that_drops_are_told_apart(outcomes: Sequence[Outcome]) -> None:
    _, deaf, drops, _ = outcomes
    stalls = toolkit.read(DATA / "generic/trace.rxt").stalls.set_index("device")
    assert (deaf.driver, deaf.kernel, deaf.number, deaf.died) == ("e1000e", "6.1", 1, None)
    assert deaf.deaf_s == pytest.approx(stalls["duration_ns"]["eth1"] / 1e9)
    assert deaf.dropping_s == deaf.spinning_s == 0
    assert drops.dropping_s == pytest.approx(stalls["duration_ns"]["eth2"] / 1e9)
    assert drops.deaf_s == pytest.approx(0)
    assert (deaf.polls, drops.polls) == (stalls["polls"]["eth1"], stalls["polls"]["eth2"])
    assert (deaf.failed, drops.failed) == (27, 5793)


def test_times_count_from_the_shortage(outcomes: Sequence[Outcome]) -> None:
    """Of the recording's phases: memory was kept back for 4.1 s, and e1000e's watchdog came 1.1 s later."""
    _, deaf, drops, _ = outcomes
    assert deaf.hold_s == pytest.approx(4.134, abs=0.001)
    assert deaf.after_s == pytest.approx(1.076, abs=0.001)
    assert drops.after_s == 0
    (interval,) = deaf.intervals
    assert (interval.state, interval.losing) == ("no-work", False)
    assert interval.start_s == pytest.approx(0.240, abs=0.001)
    assert interval.end_s == pytest.approx(5.211, abs=0.001)
    assert drops.intervals[0].losing


def test_loss_is_what_the_sender_had_and_the_interface_did_not_take(outcomes: Sequence[Outcome]) -> None:
    deaf = outcomes[1]
    assert (deaf.frames, deaf.refused, deaf.lost) == (226_335 + 38_246, 38_246, 38_246)
    assert deaf.gap_s == pytest.approx(5.060, abs=0.001)


def test_of_a_machine_that_died_the_rest_is_unknown(outcomes: Sequence[Outcome]) -> None:
    dead = outcomes[0]
    assert (dead.driver, dead.died) == ("e100", DEATH)
    assert dead == Outcome(dead.machine, "6.1", "e100", 1, DEATH)


def test_state_that_does_not_end_counts_to_the_last_end_that_is_known(outcomes: Sequence[Outcome]) -> None:
    some = (
        Interval("no-work", 0.5, 1.5, False),
        Interval("spinning", 2, 3.5, False),
        Interval("no-work", 3, None, False),
    )
    run = replace(outcomes[1], hold_s=3.0, intervals=some)
    assert states(run) == {"no-work": 1.5, "spinning": 1.5}
