# SPDX-License-Identifier: GPL-2.0-only
"""The causes of stalls as sentences: a code and numbers in the tables, words only for people."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from toolkit import drivers
from toolkit.driver import Cause, Driver
from toolkit.stalls.classes import CALLED
from toolkit.stalls.stalls import ALLOCATION, BEFORE, NOT_SEEN

_SENTENCES = {
    NOT_SEEN: "no failed refill was seen",
    BEFORE: "it began before the trace did",
    CALLED: "the refill worker ran though no refill had failed, as after ethtool -L",
}
_REFILL = ["context", "order", "gfp_names", "cause_queue", "cause_earlier"]
"""Columns that a sentence about a failed refill is made of."""


def sentences(stalls: pd.DataFrame) -> pd.Series:
    """Return the cause of each stall in words; stalls that are the same are asked about once."""
    columns = ["driver", "cause", *_REFILL, "posted", "posted_later", "relieved_ns"]
    return _each(stalls[columns], sentence)


def general(stalls: pd.DataFrame) -> pd.Series:
    """Return the cause of each stall in words that are the same for all stalls of that cause.

    Numbers are a range: "queue stopped with 2 to 98 free".
    """
    posted = stalls.groupby(["driver", "cause"])["posted"]
    numbers = {"posted": posted.transform("min"), "most": posted.transform("max")}
    return _each(stalls[["driver", "cause", *_REFILL]].assign(**numbers), general_sentence)


def _each(rows: pd.DataFrame, say: Callable[[Mapping[Any, Any]], str]) -> pd.Series:
    number = rows.groupby(list(rows), dropna=False, sort=False).ngroup()
    words = pd.Series([say(row) for row in rows.drop_duplicates().to_dict("records")], dtype="string")
    return words.reindex(number).set_axis(rows.index)


def sentence(stall: Mapping[Any, Any]) -> str:
    """Return the cause of one stall in words.

    :param stall: the columns of a stall (docs/stalls.md) that tell of its cause.
    """
    driver = drivers.load(stall["driver"])
    own = _declared(driver, stall)
    if own is None:
        return _of_refill(driver, stall)
    words = own.says.format(posted=stall["posted"])
    if own.later and pd.notna(stall["posted_later"]):
        words += ", " + own.later.format(posted_later=stall["posted_later"])
    if own.relieved and pd.notna(stall["relieved_ns"]):
        words += "; " + own.relieved.format(relieved=f"{stall['relieved_ns'] / 1e9:.1f}")
    return words


def general_sentence(stall: Mapping[Any, Any]) -> str:
    """Return the cause of several stalls in words.

    :param stall: the columns of a stall that tell of its cause; `posted` and `most` are the fewest and the
        most buffers.
    """
    driver = drivers.load(stall["driver"])
    own = _declared(driver, stall)
    if own is None:
        return _of_refill(driver, stall)
    few, most = stall["posted"], stall["most"]
    return own.says.format(posted=few if few == most else f"{few} to {most}")


def _declared(driver: Driver, stall: Mapping[Any, Any]) -> Cause | None:
    """Return the driver's own cause of a stall; None if it is one that any driver has."""
    return next((cause for cause in driver.causes if cause.name == stall["cause"]), None)


def _of_refill(driver: Driver, stall: Mapping[Any, Any]) -> str:
    if stall["cause"] in _SENTENCES:
        return _SENTENCES[stall["cause"]]
    # The counts of the stall do not have a refill that ended before it.
    article, earlier = ("an", "earlier ") if stall["cause_earlier"] else ("a", "")
    where = f"{earlier}{stall['context']} refill"
    if pd.notna(stall["cause_queue"]):
        where += f" of {driver.queue_label(int(stall['cause_queue']))}"
    if stall["cause"] == ALLOCATION:
        return f"order-{stall['order']} allocation failed in {article} {where} ({stall['gfp_names']})"
    return f"{where} failed ({stall['gfp_names']})"
