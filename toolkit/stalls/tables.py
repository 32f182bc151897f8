# SPDX-License-Identifier: GPL-2.0-only
"""The tables that a driver declares of events of its own: pairs of events, and events that last."""

from collections.abc import Sequence

import numpy as np

from toolkit.driver import Driver, Table
from toolkit.stalls.columns import Draft, integers, take
from toolkit.stalls.marks import Marks, devices, first_of, in_order, last_of, latest
from toolkit.stalls.scan import Scan
from toolkit.trace.reader import Columns


def tables(scan: Scan, drivers: Sequence[Driver], stalls: Columns) -> dict[str, Draft]:
    """Make the tables of the drivers of a trace (``[[table]]`` in driver.toml).

    :param stalls: columns queue (index in scan.queues), start_ns, end_ns [ns].
    :return: by name, columns as `_pairs` or `_durations` gives them.
    """
    found = {}
    number = np.array([queue.driver for queue in scan.queues], np.intp)
    for index, driver in enumerate(drivers):
        for table in driver.tables:
            rare = take(scan.rare, number[scan.rare["queue"]] == index)
            found[table.name] = _durations(table, rare) if table.lasts else _pairs(table, rare, scan, stalls)
    return found


def _pairs(table: Table, rare: Columns, scan: Scan, stalls: Columns) -> Draft:
    """Pair each event of the first kind with the next of the second, which ends it.

    :return: queue (index in scan.queues); begin_ns, end_ns [ns], null if nothing ended it; after_ns, for how
        long the stall went on in which it ended, 0 if in none, null likewise. Sorted by begin_ns.
    """
    begins, ends = (
        in_order(Marks(rare["queue"][rare["kind"] == kind], rare["ts"][rare["kind"] == kind]))[0]
        for kind in table.pair or (0, 0)
    )
    end = first_of(ends, begins)
    ended = end >= 0
    moment = np.where(ended, np.append(ends.moment, 0)[end], 0)
    device = devices(scan.queues)
    begun, order = in_order(Marks(device[stalls["queue"]], stalls["start_ns"]))
    until = latest(Marks(begun.queue, stalls["end_ns"][order]))
    stall = last_of(begun, Marks(device[begins.queue], moment))
    after = np.maximum(np.append(until, 0)[stall] - moment, 0)
    found = {
        "queue": begins.queue,
        "begin_ns": begins.moment,
        "end_ns": integers(moment, ended),
        "after_ns": integers(after, ended),
    }
    return take(found, np.lexsort((begins.queue, begins.moment)))


def _durations(table: Table, rare: Columns) -> Draft:
    """Sum up events that last, as far as they were sent one by one.

    :return: by queue (index in scan.queues) that had any: count; p50_ns, p99_ns and max_ns [ns], how long
        they took; and the number of events of each further kind that the table names.
    """
    counted = {column.name: column.kind for column in table.also if column.kind}
    of_kind = {kind: rare["queue"][rare["kind"] == kind] for kind in (table.lasts, *counted.values())}
    queues = np.unique(np.concatenate(list(of_kind.values())))
    most = queues.max(initial=0) + 1
    counts = {kind: np.bincount(queue, minlength=most)[queues] for kind, queue in of_kind.items()}
    lasts = rare["kind"] == table.lasts
    took, _ = in_order(Marks(rare["queue"][lasts], (rare["ts"] - rare["start"])[lasts]))
    first, number = np.searchsorted(took.queue, queues), counts[table.lasts]
    some = np.append(took.moment, [0, 0])
    found: Draft = {"queue": queues, "count": number}
    for name, share in (("p50_ns", 0.5), ("p99_ns", 0.99), ("max_ns", 1.0)):
        # In proportion, where the place is between two of them.
        place = np.maximum(share * (number - 1), 0)
        low = first + place.astype(np.intp)
        part = np.floor((some[low + (place % 1 > 0)] - some[low]) * (place % 1))
        found[name] = integers(some[low] + part.astype(np.int64), number > 0)
    return found | {name: counts[kind] for name, kind in counted.items()}
