# SPDX-License-Identifier: GPL-2.0-only
from tests.conftest import MS
from vm.inside import aoe
from vm.inside.aoe import progress

TIMES = [at * MS for at in (1000, 1020, 1040, 1500, 1520, 2000)]


def test_a_gap_is_while_requests_wait_and_none_ends() -> None:
    (gap,) = progress.gaps(TIMES, [1, 2, 3, 3, 4, 4], [1, 1, 1, 1, 0, 0])
    assert gap == {"start_ns": 1040 * MS, "duration_ns": 480 * MS, "refused": 1}


def test_no_request_is_no_gap() -> None:
    assert progress.gaps(TIMES, [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]) == []


def test_request_that_does_not_end_leaves_the_gap_open() -> None:
    *_, gap = progress.gaps(TIMES, [1, 2, 3, 4, 4, 4], [1, 1, 1, 4, 4, 4])
    assert gap == {"start_ns": 1500 * MS, "duration_ns": 500 * MS, "refused": 4, "open": True}


def test_a_request_that_came_late_waits_from_then_on() -> None:
    (gap,) = progress.gaps(TIMES, [1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1])
    assert gap["start_ns"] == 1500 * MS


def test_the_account_holds_each_change_of_the_pool_once() -> None:
    small, large = aoe.State(4, 0, 0, 64, 100), aoe.State(256, 1, 0, 64, 700)
    began, states = [at - MS for at in TIMES[:4]], [small, small, large, large]
    looks = progress.Looks(began, TIMES[:4], [1, 9, 9, 9], [1, 1, 1, 1], states)
    account = progress.account(looks)
    assert (account["sent"], account["refused"], account["frames"]) == (8, 1, 600)
    assert account["pool"] == [
        [999 * MS, 1000 * MS, 4, 0, 64, 0],
        [1039 * MS, 1040 * MS, 256, 0, 64, 1],
    ]
