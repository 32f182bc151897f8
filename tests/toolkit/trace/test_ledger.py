# SPDX-License-Identifier: GPL-2.0-only
import pytest

from tests.conftest import BEGAN, S
from toolkit.trace.ledger import added, changed, changes, lists, loss_windows, totals, whole

WHOLE = {
    "window": {"attempted": [5, 7], "delivered": [4, 7], "dropped": [1, 0]},
    "refill": {"attempted": [1, 0], "delivered": [1, 0], "dropped": [0, 0]},
}


def test_totals_of_all_kinds_and_cpus() -> None:
    assert totals(whole(WHOLE)) == {"attempted": 13, "delivered": 12, "dropped": 1}
    assert totals({}) == {"attempted": 0, "delivered": 0, "dropped": 0}


def test_sums_of_two_ledgers() -> None:
    more = whole({"window": {"attempted": [1], "delivered": [1], "dropped": [0]}})
    assert lists(added(whole(WHOLE), more)) == {
        **WHOLE,
        "window": {"attempted": [6, 7], "delivered": [5, 7], "dropped": [1, 0]},
    }
    assert lists(added(more, whole(WHOLE))) == lists(added(whole(WHOLE), more))
    assert lists(added({}, whole(WHOLE))) == WHOLE


def test_only_what_changed_is_written() -> None:
    later = {**WHOLE, "window": {"attempted": [5, 9], "delivered": [4, 8], "dropped": [1, 1]}}
    assert changes(whole(later), whole(WHOLE)) == {
        "window": {"cpu": [1], "attempted": [2], "delivered": [1], "dropped": [1]}
    }
    assert changes(whole(WHOLE), whole(WHOLE)) == {}


def test_changes_give_the_ledger_again() -> None:
    ledger = changed({}, changes(whole(WHOLE), {}))
    later = {**WHOLE, "poll": {"attempted": [0, 0, 3], "delivered": [0, 0, 3], "dropped": [0, 0, 0]}}
    ledger = changed(ledger, changes(whole(later), whole(WHOLE)))
    assert totals(ledger) == totals(whole(later))
    assert ledger["window"].tolist() == [[5, 7], [4, 7], [1, 0]]
    assert ledger["poll"].tolist() == [[0, 0, 3], [0, 0, 3], [0, 0, 0]]


def test_a_cpu_that_comes_later_had_counted_nothing() -> None:
    one = whole({"poll": {"attempted": [5], "delivered": [5], "dropped": [0]}})
    two = whole({"poll": {"attempted": [5, 2], "delivered": [5, 1], "dropped": [0, 1]}})
    expected = {"poll": {"cpu": [1], "attempted": [2], "delivered": [1], "dropped": [1]}}
    assert changes(two, one) == expected
    assert changed(one, expected)["poll"].tolist() == two["poll"].tolist()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"cpu": [0], "attempted": [1, 1], "delivered": [1], "dropped": [0]}, "not one number for each CPU"),
        ({"cpu": [0, 1], "attempted": [1], "delivered": [1], "dropped": [0]}, "not one number for each CPU"),
        ({"cpu": [1, 1], "attempted": [1, 1], "delivered": [1, 1], "dropped": [0, 0]}, "not one number"),
        ({"cpu": [0], "attempted": [-6], "delivered": [0], "dropped": [0]}, "counts down below 0"),
        ({"cpu": [0], "attempted": [1 << 62], "delivered": [0], "dropped": [0]}, "or too far"),
    ],
)
def test_what_cannot_be_changes(change: dict[str, list[int]], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        changed(whole(WHOLE), {"window": change})


def test_there_are_not_more_kinds_than_numbers_for_them() -> None:
    one = {"cpu": [8191], "attempted": [1], "delivered": [1], "dropped": [0]}
    with pytest.raises(ValueError, match="more than 256 kinds"):
        changed({}, {f"kind {number}": one for number in range(257)})


def test_a_ledger_of_format_1_has_one_number_for_each_cpu() -> None:
    with pytest.raises(ValueError, match="ledger of poll has not one number for each CPU"):
        whole({"poll": {"attempted": [1, 1], "delivered": [0], "dropped": [0]}})


def test_loss_windows_lie_between_the_drains_where_drops_grew() -> None:
    drains = [(BEGAN + second * S, dropped) for second, dropped in ((1, 0), (2, 3), (3, 3), (4, 4), (5, 9))]
    assert loss_windows(BEGAN, drains) == [
        (BEGAN + 1 * S, BEGAN + 2 * S),
        (BEGAN + 3 * S, BEGAN + 5 * S),
    ]


def test_drops_before_the_first_drain() -> None:
    assert loss_windows(BEGAN, [(BEGAN + S, 1)]) == [(BEGAN, BEGAN + S)]
