# SPDX-License-Identifier: GPL-2.0-only
"""What a slow refill, a slow poll and a wait for a poll are. Needs no pandas: a running trace counts them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.event import FLAG, KIND
from toolkit.stalls.thresholds import DEFAULT

SLOW_REFILL = "slow-refill"
SLOW_POLL = "slow-poll"
UNPOLLED = "unpolled"

STATES = (SLOW_REFILL, SLOW_POLL, UNPOLLED)
"""In this order: a moment in a slow refill is in no slow poll."""

SLOW_NS = DEFAULT.silence_over_ns
"""From this length on a running trace counts them."""

_KINDS = [KIND[name] for name in ("window", "poll", "refill", "late")]


def rows(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.intp]:
    """Return the rows of events that tell of refills in softirq, polls and waits of SLOW_NS and longer."""
    at = np.flatnonzero(columns["dur"] >= SLOW_NS)
    if not len(at):
        return at
    softirq = columns["flags"][at] & FLAG["process"] == 0
    return np.asarray(at[softirq & np.isin(columns["kind"][at], _KINDS)])


def states(columns: Mapping[str, NDArray[Any]], at: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the place in STATES of the state that each of these rows tells of."""
    late, polled = columns["kind"][at] == KIND["late"], columns["polls"][at] > 0
    return np.where(late, 2, np.where(polled, 1, 0))
