# SPDX-License-Identifier: GPL-2.0-only
import numpy as np

from tests.conftest import MS, event, refilled, window
from toolkit.stalls import slow
from toolkit.trace.schema import EVENT


def test_slow_events_and_the_states_that_they_tell_of() -> None:
    events = np.concatenate(
        [
            window(1),
            window(2, dur=10 * MS, polls=0),
            window(3, dur=10 * MS - 1),
            window(4, dur=10 * MS),
            event("late", 5, dur=10 * MS),
            event("reclaim", 6, dur=10 * MS),
            refilled(7, dur=10 * MS),
        ]
    )
    columns = {name: events[name] for name in EVENT.names or ()}
    rows = slow.rows(columns)
    assert rows.tolist() == [1, 3, 4]
    assert [slow.STATES[state] for state in slow.states(columns, rows)] == [
        slow.SLOW_REFILL,
        slow.SLOW_POLL,
        slow.UNPOLLED,
    ]
