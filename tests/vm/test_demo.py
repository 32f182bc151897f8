# SPDX-License-Identifier: GPL-2.0-only
from typing import Any

import pytest

from vm.demo import judge


def summary(difference: int | None, dropped: int = 0, duration: int = 1_000_000_000) -> dict[str, Any]:
    return {
        "stalls": [{"duration_ns": duration, "witness_difference_ns": difference}],
        "ledger": {"dropped": dropped},
    }


def test_right_result_of_the_demo_is_no_complaint() -> None:
    assert judge(summary(-40_000_000)) == []


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        (summary(-61_000_000), "differs by -61 ms"),
        (summary(None), "saw no gap"),
        (summary(0, dropped=3), "3 events were dropped"),
        (summary(0, duration=1_000_000), "no stall was found"),
        ({"stalls": [], "ledger": {"dropped": 0}}, "no stall was found"),
    ],
)
def test_wrong_result_of_the_demo_is_named(found: dict[str, Any], complaint: str) -> None:
    assert any(complaint in sentence for sentence in judge(found))
