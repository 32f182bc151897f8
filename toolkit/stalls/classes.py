# SPDX-License-Identifier: GPL-2.0-only
"""Classes of stalls: brief ones and reconfigurations are told apart, and no headline counts them."""

import numpy as np
from numpy.typing import NDArray

from toolkit.event import KIND, WINDOW_NS
from toolkit.stalls.marks import devices
from toolkit.stalls.scan import Scan
from toolkit.stalls.thresholds import Thresholds
from toolkit.trace.reader import Columns

STALL = "stall"
BRIEF = "brief"
RECONFIGURATION = "reconfiguration"

CALLED_NS = 1_000_000_000
"""The longest time from a failed refill to its worker: drivers schedule it up to 0.5 s later."""

CALLED = "worker_without_failure"
"""The cause of a reconfiguration: the refill worker ran though no refill had failed, as after ethtool -L."""


def classify(stalls: Columns, scan: Scan, thresholds: Thresholds) -> NDArray[np.str_]:
    """Return the class of each stall, STALL, BRIEF or RECONFIGURATION: a headline counts only the first.

    A stall that is open or uncertain may be longer than it looks, and is always counted.

    :param stalls: columns queue (index in scan.queues), start_ns, end_ns, duration_ns, open, uncertain, and
        the time in each state.
    """
    known = ~(stalls["open"] | stalls["uncertain"])
    called = known & _called_without_failure(stalls, scan)
    brief = known & (stalls["duration_ns"] < thresholds.brief_under_ns)
    return np.select([called, brief], [RECONFIGURATION, BRIEF], STALL)


def _called_without_failure(stalls: Columns, scan: Scan) -> NDArray[np.bool_]:
    """Tell the stalls in which a worker turned NAPI off though no refill had failed since its last
    invocation.
    """
    found = np.zeros(len(stalls["queue"]), np.bool_)
    if "napi_off_ns" not in stalls:
        return found
    device = devices(scan.queues)
    rare = scan.rare
    failures = (rare["kind"] == KIND["refill"]) & ~rare["complete"]
    failures |= rare["kind"] == KIND["alloc_fail"]
    own = device[rare["queue"]]
    held = np.flatnonzero(stalls["napi_off_ns"] == stalls["duration_ns"])
    of = device[stalls["queue"][held]]
    for each in np.unique(of):
        mine = held[of == each]
        start, end = (stalls[name][mine] for name in ("start_ns", "end_ns"))
        failed, began, ended = (
            np.sort(rare["ts"][rows & (own == each)])
            for rows in (failures, rare["kind"] == KIND["worker_in"], rare["kind"] == KIND["worker_out"])
        )
        run = np.searchsorted(began, start, "right") - 1
        first, known = run == 0, run >= 0
        last = np.append(began, scan.began)[np.where(run > 0, run - 1, len(began))]
        over = np.maximum(last, np.append(ended, scan.began)[np.searchsorted(ended, start, "right") - 1])
        # A refill that failed just before the last invocation began may have called for this invocation, too.
        soon = start - over <= CALLED_NS
        since = last - np.where(soon, WINDOW_NS, 0)
        none = np.searchsorted(failed, since) == np.searchsorted(failed, end, "right")
        # A refill may have failed before the trace began.
        found[mine] = known & none & ~(first & soon)
    return found
