# SPDX-License-Identifier: GPL-2.0-only
"""Choose traces by conditions such as "kernel=6.12.* day>=2026-11-08"."""

import operator
import re
from collections.abc import Callable
from datetime import date
from fnmatch import translate
from typing import NamedTuple

import pandas as pd

from toolkit.errors import UserError
from toolkit.fleet.frames import WHERE

_ORDER: dict[str, Callable[[pd.Series, pd.Timestamp], pd.Series]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}
_CONDITION = re.compile(r"(?P<name>[a-z]+)(?P<sign><=|>=|!=|=|<|>)(?P<value>\S+)")
_NAMED = 5


class Condition(NamedTuple):
    """One condition: a column of the traces, a sign, a value."""

    name: str
    sign: str
    value: str


def parse(text: str) -> list[Condition]:
    """Read conditions that are separated by blanks.

    :param text: such as "kernel=6.12.* build!=stock day>=2026-11-08". A value is a pattern of the shell, with
        * and ?; a day is a date.
    :raises UserError: if it is something else.
    """
    found = []
    for word in text.split():
        match = _CONDITION.fullmatch(word)
        if match is None or match["name"] not in WHERE:
            raise UserError(
                f"{word!r} is no condition: write, for instance, 'kernel=6.12.*' or 'day>=2026-11-08'; there "
                f"are {', '.join(WHERE)}."
            )
        if match["name"] == "day":
            _day(match["value"])
        elif match["sign"] not in ("=", "!="):
            raise UserError(f"{word!r} is no condition: only a day is compared by {match['sign']}.")
        found.append(Condition(**match.groupdict()))
    if not found:
        raise UserError("there is no condition: write, for instance, 'kernel=6.12.*' or 'day>=2026-11-08'.")
    return found


def choose(traces: pd.DataFrame, text: str) -> pd.Series:
    """Tell of each trace whether all conditions hold; where a value is not known, none does.

    :raises UserError: if the text cannot be read, or no trace is left.
    """
    chosen = pd.Series(True, traces.index)
    for condition in parse(text):
        chosen &= _holds(traces[condition.name], condition)
        if not chosen.any():
            raise UserError(f"no trace has {text}; {_there_are(traces[condition.name])}.")
    return chosen


def _holds(values: pd.Series, condition: Condition) -> pd.Series:
    if condition.name == "day":
        return _ORDER[condition.sign](values, pd.Timestamp(_day(condition.value))) & values.notna()
    matches = values.astype("string").str.fullmatch(translate(condition.value))
    return ((matches if condition.sign == "=" else ~matches) & values.notna()).astype(bool)


def _there_are(values: pd.Series) -> str:
    """Say which values a column has."""
    if values.name == "day":
        days = values.dropna()
        return (
            f"the days are {days.min():%Y-%m-%d} to {days.max():%Y-%m-%d}" if len(days) else "no day is known"
        )
    known = values.dropna().astype(str).value_counts().index
    if known.empty:
        return f"no {values.name} is known"
    more = f", … ({len(known):,} in all)" if len(known) > _NAMED else ""
    return f"there are the {values.name}s {', '.join(sorted(known[:_NAMED]))}{more}"


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UserError(f"{text!r} is no day: write it as 2026-11-08.") from None
