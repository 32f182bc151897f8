# SPDX-License-Identifier: GPL-2.0-only
from tests.conftest import BEGAN, S, note
from toolkit.trace.ledger import loss_windows, totals


def test_totals_of_all_kinds_and_cpus() -> None:
    ledger = {
        "window": {"attempted": [5, 7], "delivered": [4, 7], "dropped": [1, 0]},
        "refill": {"attempted": [1, 0], "delivered": [1, 0], "dropped": [0, 0]},
    }
    assert totals(ledger) == {"attempted": 13, "delivered": 12, "dropped": 1}


def test_loss_windows_lie_between_the_drains_where_drops_grew() -> None:
    notes = [note(1), note(2, dropped=3), note(3, dropped=3), note(4, dropped=4), note(5, dropped=9)]
    assert loss_windows(BEGAN, notes) == [
        (BEGAN + 1 * S, BEGAN + 2 * S),
        (BEGAN + 3 * S, BEGAN + 5 * S),
    ]


def test_drops_before_the_first_drain() -> None:
    assert loss_windows(BEGAN, [note(1, dropped=1)]) == [(BEGAN, BEGAN + S)]


def test_a_note_without_a_ledger_changes_nothing() -> None:
    assert loss_windows(BEGAN, [note(1), {"now_ns": BEGAN + 2 * S}, note(3)]) == []
