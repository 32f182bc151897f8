# SPDX-License-Identifier: GPL-2.0-only
from typing import Any

from vm import trial


def gap(start: int, refused: int, **more: bool) -> dict[str, Any]:
    return {"start_ns": start, "duration_ns": 5, "refused": refused, **more}


def test_frames_that_our_nic_dropped_are_refused() -> None:
    account = {"sent": 100, "refused": 2, "started_ns": 50, "gaps": [gap(70, 2)]}
    rings = [
        {"gaps_lbq": [gap(10, 7), gap(90, 20, open=True)], "gaps_sbq": []},
        {"gaps_lbq": [], "gaps_sbq": [gap(60, 3)]},
    ]
    found = trial._with_nic(account, {"rings": rings})
    assert (found["sent"], found["refused"]) == (77, 25)
    assert [each["start_ns"] for each in found["gaps"]] == [60, 70, 90]
    assert found["gaps"][-1]["open"]
    assert found["nic"] == {"rings": rings}
