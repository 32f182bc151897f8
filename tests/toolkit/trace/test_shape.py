# SPDX-License-Identifier: GPL-2.0-only
import json
from copy import deepcopy
from typing import Any

import pytest

from tests.conftest import META, note
from toolkit.trace import shape
from toolkit.trace.shape import ShapeError


def changed(value: Any, place: str, new: Any) -> Any:
    """Return a copy with another value at a place such as "devices.0.name"."""
    copy = deepcopy(value)
    inner, *steps = copy, *place.split(".")
    for step in steps[:-1]:
        inner = inner[int(step)] if isinstance(inner, list) else inner[step]
    inner[steps[-1]] = new
    return copy


def test_description_and_note_as_they_are_written_have_their_shape() -> None:
    shape.META.check(json.loads(json.dumps(META)))
    shape.NOTES[1].check(json.loads(json.dumps(note(1))))


@pytest.mark.parametrize(
    ("place", "new", "sentence"),
    [
        ("devices", None, "devices"),
        ("host", None, "host"),
        ("devices.0.ifindex", "3", r"devices\[0\]\.ifindex"),
        ("devices.0.ifindex", True, r"devices\[0\]\.ifindex"),
        ("devices.0.queues.0.queue", 1 << 70, r"devices\[0\]\.queues\[0\]\.queue"),
        ("devices.0.name", "x" * 300, r"devices\[0\]\.name"),
        ("clock.monotonic_ns", 1 << 63, "clock.monotonic_ns"),
        ("drivers", [], "drivers"),
        ("gfp_flags", {"GFP_ATOMIC": -1}, "gfp_flags"),
    ],
)
def test_another_shape_is_named_with_its_place(place: str, new: Any, sentence: str) -> None:
    with pytest.raises(ShapeError, match=sentence):
        shape.META.check(changed(META, place, new))


def test_missing_member_is_named_and_an_unknown_one_ignored() -> None:
    shape.NOTES[1].check({**note(1), "later": [1]})
    with pytest.raises(ShapeError, match="now_ns is missing"):
        shape.NOTES[1].check({"ledger": {}})


def test_ledger_of_format_2_has_changes_by_cpu() -> None:
    change = {"cpu": [1], "attempted": [-1], "delivered": [0], "dropped": [0]}
    shape.NOTES[2].check({"now_ns": 1, "before": "0123abcd", "ledger": {"poll": change}})
    with pytest.raises(ShapeError, match=r"ledger\.poll\.cpu is not between 0 and 8191"):
        shape.NOTES[2].check({"now_ns": 1, "before": "", "ledger": {"poll": {**change, "cpu": [8192]}}})
    with pytest.raises(ShapeError, match="before is missing"):
        shape.NOTES[2].check({"now_ns": 1})
