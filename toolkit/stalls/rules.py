# SPDX-License-Identifier: GPL-2.0-only
"""Evaluate a driver's conditions on columns of events."""

import operator
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.driver import Condition
from toolkit.event import FLAG, KIND
from toolkit.trace.reader import Columns

_OPERATORS: dict[str, Callable[..., NDArray[np.bool_]]] = {
    name: getattr(operator, name) for name in ("eq", "ne", "gt", "ge", "lt", "le")
}


def moments(columns: Columns) -> NDArray[np.int64]:
    """Return when each event took effect [ns]: its `ts`; for a window, its first event."""
    moment = columns["ts"].view(np.int64)
    windows = columns["kind"] == KIND["window"]
    return np.where(windows, moment - columns["dur"].view(np.int64), moment) if windows.any() else moment


def rows(conditions: Sequence[Condition], columns: Columns) -> NDArray[np.intp]:
    """Return the events that match any of the conditions.

    :param conditions: of one state of a driver.
    :param columns: the events.
    :return: their row numbers, ascending.
    """
    found = [_matching(condition, columns) for condition in conditions]
    if len(found) == 1:
        return found[0]
    match = np.zeros(len(columns["ts"]), np.bool_)
    for each in found:
        match[each] = True
    return np.flatnonzero(match)


def of_kinds(conditions: Sequence[Condition], kinds: Collection[int]) -> list[Condition]:
    """Return those conditions that an event of one of some kinds could match."""
    wanted = [(each, each.get("kind", {}).get("eq")) for each in conditions]
    return [each for each, kind in wanted if kind is None or kind in kinds]


def _matching(condition: Condition, columns: Columns) -> NDArray[np.intp]:
    """Return the rows that match the whole condition; each test looks only at the rows that the last one
    left.
    """
    left: NDArray[np.intp] | None = None
    for name, tests in condition.items():
        for test, value in tests.items():
            values = column(name, columns) if left is None else column(name, columns, left)
            hits = np.flatnonzero(_OPERATORS[test](values, value))
            left = hits if left is None else left[hits]
    return np.arange(len(columns["ts"])) if left is None else left


def column(name: str, columns: Columns, at: NDArray[np.intp] | slice = slice(None)) -> NDArray[Any]:
    """Return a column at some rows; a flag is returned as if it were a column of booleans."""
    if name in FLAG and name not in columns:
        return np.asarray(columns["flags"][at] & FLAG[name], np.bool_)
    return columns[name][at]
