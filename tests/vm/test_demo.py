# SPDX-License-Identifier: GPL-2.0-only
from typing import Any

import pytest

from vm.demo import judge


def summary(
    difference: int | None,
    dropped: int = 0,
    duration: int = 1_000_000_000,
    unseen: int | None = 0,
    unexplained: tuple[int, int] = (0, 0),
) -> dict[str, Any]:
    """Return what a demo's summary.json says of one stall, which begins at one second.

    :param unexplained: begin and length [ns] of a part of a gap that has no reason.
    """
    begin, length = unexplained
    return {
        "stalls": [{"start_ns": 1_000_000_000, "duration_ns": duration, "witness_difference_ns": difference}],
        "ledger": {"dropped": dropped},
        "witness": {
            "largest_difference_ns": unseen,
            "unexplained": [{"start_ns": begin, "duration_ns": length}],
        },
    }


def test_right_result_of_the_demo_is_no_complaint() -> None:
    assert judge(summary(-40_000_000, unseen=40_000_000)) == []


def test_time_in_which_the_sender_did_not_run_is_not_asked_for() -> None:
    """The gap is 71 ms shorter than the stall, but the sender was away for 31 ms of these."""
    assert judge(summary(-71_000_000, unseen=40_000_000)) == []


@pytest.mark.parametrize(
    "found",
    [
        # Its CPU came late to a ring that was full already.
        summary(300_000_000),
        # A host that is busy at another time.
        summary(61_000_000, unexplained=(5_000_000_000, 500_000_000)),
        summary(61_000_000, unexplained=(500_000_000, 440_000_000)),
    ],
)
def test_a_gap_may_be_longer_for_a_reason(found: dict[str, Any]) -> None:
    assert judge(found) == []


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        (summary(-61_000_000, unseen=61_000_000), "61 ms of a stall are in no gap, though the sender ran"),
        (summary(61_000_000, unexplained=(939_000_000, 61_000_000)), "saw a gap that is 61 ms longer"),
        (summary(90_000_000, unexplained=(1_990_000_000, 70_000_000)), "saw a gap that is 70 ms longer"),
        (summary(None), "saw no gap"),
        (summary(0, dropped=3), "3 events were dropped"),
        (summary(0, duration=1_000_000), "no stall was found"),
        ({"stalls": [], "ledger": {"dropped": 0}, "witness": None}, "no stall was found"),
    ],
)
def test_wrong_result_of_the_demo_is_named(found: dict[str, Any], complaint: str) -> None:
    assert any(complaint in sentence for sentence in judge(found))
