# SPDX-License-Identifier: GPL-2.0-only
"""Moments of many queues at once, as arrays: no loop over queues, however many there are.

Needs no pandas: a running trace follows its states by the same functions as the analysis of a file.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from toolkit.event import ALL_QUEUES
from toolkit.trace.reader import Columns


class Queue(NamedTuple):
    """Whose event it is; `queue` may be ALL_QUEUES."""

    driver: int
    ifindex: int
    queue: int


class Marks(NamedTuple):
    """Moments of queues: the index of each one's queue, and the time [ns]."""

    queue: NDArray[np.intp]
    moment: NDArray[np.int64]


def joined(parts: Sequence[Marks]) -> Marks:
    """Return the marks of all parts, one after the other."""
    none = Marks(np.empty(0, np.intp), np.empty(0, np.int64))
    queues, moments = zip(none, *parts, strict=True)
    return Marks(np.concatenate(queues), np.concatenate(moments))


class QueueTable(NamedTuple):
    """The queues of a trace, ready to be looked up.

    Attributes: `codes`, of driver, interface and number of each queue, ascending, and `places`, the index
    of each. The events of a queue are about `counts` members of `order`, from `first` on: the queue itself
    or, for ALL_QUEUES, all queues of the device.
    """

    codes: NDArray[np.int64]
    places: NDArray[np.intp]
    first: NDArray[np.intp]
    counts: NDArray[np.intp]
    order: NDArray[np.intp]


def devices(queues: Sequence[Queue]) -> NDArray[np.int64]:
    """Return a number for the driver and device of each queue."""
    return np.array([queue.driver << 32 | queue.ifindex for queue in queues], np.int64)


def queue_table(queues: Sequence[Queue]) -> QueueTable:
    """Prepare queues to be looked up; their indices are the places in this sequence."""
    driver, ifindex, number = np.array(queues, np.int64).reshape(-1, 3).T
    codes = driver << 48 | ifindex << 16 | number
    places = np.argsort(codes)
    device = codes >> 16
    order = np.flatnonzero(number != ALL_QUEUES)
    order = order[np.argsort(device[order], kind="stable")]
    first = np.searchsorted(device[order], device)
    count = np.searchsorted(device[order], device, "right") - first
    first[order], count[order] = np.arange(len(order)), 1
    return QueueTable(codes[places], places, first, count, order)


def look_up(columns: Columns, table: QueueTable, at: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the index of the queue of some events, which must be in the table.

    :param at: the rows of the events.
    """
    codes = columns["ifindex"][at].astype(np.int64) << 16
    codes |= columns["queue"][at]
    codes |= columns["driver"][at].astype(np.int64) << 48
    return table.places[np.searchsorted(table.codes, codes)]


def spread(queue: NDArray[np.intp], table: QueueTable) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Repeat each event for every queue that it is about.

    :param queue: the index of each event's queue.
    :return: row numbers of the events, and the index of the queue that each is about.
    """
    count = table.counts[queue]
    row = np.repeat(np.arange(len(queue)), count)
    within = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    return row, table.order[table.first[queue][row] + within]


def marks_of(at: NDArray[np.intp], columns: Columns, moments: NDArray[np.int64], table: QueueTable) -> Marks:
    """Return when some events took effect, once for each queue that they are about.

    :param at: the rows of the events.
    :param moments: when each event took effect (rules.moments).
    """
    if not len(at):
        return joined([])
    row, queue = spread(look_up(columns, table, at), table)
    return Marks(queue, moments[at][row])


def turns(begins: Marks, ends: Marks) -> tuple[Marks, NDArray[np.bool_]]:
    """Put begins and ends of a state in order, and leave out those that change nothing.

    :return: marks by queue and moment, begin and end of each queue in turn, where a queue may lack its
        last end, and have an end before its first begin; and whether each is a begin.
    """
    queue = np.concatenate([ends.queue, begins.queue])
    moment = np.concatenate([ends.moment, begins.moment])
    begin = np.repeat([False, True], [len(ends.queue), len(begins.queue)])
    # An end comes before a begin of the same moment.
    order = np.lexsort((begin, moment, queue))
    queue, moment, begin = queue[order], moment[order], begin[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (queue[1:] != queue[:-1]) | (begin[1:] != begin[:-1])
    return Marks(queue[new], moment[new]), begin[new]


def latest(marks: Marks) -> NDArray[np.int64]:
    """Return the latest moment of each mark's queue until that mark.

    :param marks: sorted by queue; those of a queue are in any order of time.
    """
    queue, moment = marks
    if ((moment[1:] >= moment[:-1]) | (queue[1:] != queue[:-1])).all():
        return moment
    # The rank of a moment is small, so that its queue fits into the same number.
    order = np.argsort(moment, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    group = np.cumsum(np.append(0, queue[1:] != queue[:-1]))
    last = np.maximum.accumulate(group * len(order) + rank) % len(order)
    return np.asarray(moment[order][last], np.int64)


def last_until(marks: Marks, asked: Marks) -> NDArray[np.intp]:
    """Find, for each moment of a queue, the last mark of the same queue at or before that moment.

    :param marks: sorted by queue and moment.
    :param asked: the queues and moments to look for, in any order.
    :return: for each of `asked`, an index into `marks`. If the queue has no mark so early, it is the index
        just before the place of the queue's first mark: a mark of another queue, or -1. `last_of` returns
        -1 for all of these.
    """
    low = np.searchsorted(marks.queue, asked.queue)
    high = np.searchsorted(marks.queue, asked.queue, "right")
    left = np.flatnonzero(low < high)
    while len(left):
        middle = (low[left] + high[left]) // 2
        before = marks.moment[middle] <= asked.moment[left]
        low[left[before]] = middle[before] + 1
        high[left[~before]] = middle[~before]
        left = left[low[left] < high[left]]
    return low - 1


def in_order(marks: Marks) -> tuple[Marks, NDArray[np.intp]]:
    """Sort marks by queue and moment; those that are equal keep their order.

    :return: the sorted marks, and where each of them was.
    """
    order = np.lexsort((marks.moment, marks.queue))
    return Marks(marks.queue[order], marks.moment[order]), order


def last_of(marks: Marks, asked: Marks) -> NDArray[np.intp]:
    """Return the index of the last mark of the same queue until each moment, -1 if there is none.

    :param marks: sorted by queue and moment.
    """
    found = last_until(marks, asked)
    return np.where(np.append(marks.queue, -1)[found] == asked.queue, found, -1)


def first_of(marks: Marks, asked: Marks) -> NDArray[np.intp]:
    """Return the index of the first mark of the same queue from each moment on, -1 if there is none.

    :param marks: sorted by queue and moment.
    """
    found = last_until(marks, Marks(asked.queue, asked.moment - 1)) + 1
    return np.where(np.append(marks.queue, -1)[found] == asked.queue, found, -1)
