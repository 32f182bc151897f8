# SPDX-License-Identifier: GPL-2.0-only
import numpy as np
import pytest

from tests.conftest import BEGAN, MS, S, event, failed, refilled, window
from toolkit.event import KIND
from toolkit.stalls import rules
from toolkit.trace.reader import Columns
from toolkit.trace.schema import EVENT, Events


def _columns(*events: Events) -> Columns:
    table = np.concatenate(events)
    return {name: np.ascontiguousarray(table[name]) for name in EVENT.names or ()}


EVENTS = _columns(window(1), failed(2), refilled(3), event("napi_off", 4, flags="in_worker"))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({}, [0, 1, 2, 3]),
        ({"kind": {"eq": KIND["refill"]}}, [1, 2]),
        ({"kind": {"eq": KIND["refill"]}, "complete": {"eq": 0}}, [1]),
        ({"posted_after": {"gt": 0, "ne": 65535}}, [0, 2]),
        ({"in_worker": {"eq": 1}, "complete": {"eq": 0}}, [3]),
        ({"packets": {"ge": 40, "le": 40}}, [0]),
        ({"posted_after": {"lt": 1}}, [1]),
    ],
)
def test_condition_is_one_on_every_column_it_names(
    condition: dict[str, dict[str, int]], expected: list[int]
) -> None:
    assert rules.rows([condition], EVENTS).tolist() == expected


def test_any_of_several_conditions_is_enough() -> None:
    either = [{"posted_after": {"eq": 256}}, {"kind": {"eq": KIND["refill"]}}]
    assert rules.rows(either, EVENTS).tolist() == [1, 2]
    assert rules.rows([], EVENTS).tolist() == []


def test_conditions_on_kinds_that_are_not_there_are_left_out() -> None:
    refill, look = ({"kind": {"eq": KIND[name]}, "posted_after": {"eq": 0}} for name in ("refill", "look"))
    any_kind, above = {"posted_after": {"gt": 0}}, {"kind": {"gt": 1}}
    assert rules.of_kinds([refill, any_kind, look, above], {KIND["refill"]}) == [refill, any_kind, above]
    assert rules.of_kinds([refill, look], {KIND["window"]}) == []


def test_a_window_takes_effect_at_its_first_event() -> None:
    moments = rules.moments(_columns(window(1, dur=8 * MS), failed(2, dur=5)))
    assert moments.tolist() == [BEGAN + S - 8 * MS, BEGAN + 2 * S]
