# SPDX-License-Identifier: GPL-2.0-only
"""Block requests of a driver that has a disk: how long they took."""

import numpy as np
import pandas as pd

from toolkit.event import KIND
from toolkit.stalls.scan import Scan

COLUMNS = {
    "queue": "int64",
    "requests": "int64",
    "retransmits": "int64",
    "p50_ns": "Int64",
    "p99_ns": "Int64",
    "max_ns": "Int64",
}


def requests(scan: Scan) -> pd.DataFrame:
    """Sums up the requests that were sent one by one: all with --detail full, else those of 10 ms and more.

    :return: by queue (index in scan.queues) that had any: requests; retransmits, frames that were sent again;
        p50_ns, p99_ns and max_ns [ns], how long the requests took.
    """
    rare = scan.rare
    latency = (rare["ts"] - rare["start"])[rare["kind"] == KIND["request"]]
    ended = latency.groupby(rare["queue"])
    again = rare["queue"][rare["kind"] == KIND["retransmit"]].value_counts()
    found = pd.DataFrame({"requests": ended.size(), "retransmits": again}).fillna(0)
    for name, share in (("p50_ns", 0.5), ("p99_ns", 0.99), ("max_ns", 1.0)):
        found[name] = np.floor(ended.quantile(share))
    return found.rename_axis("queue").reset_index()[list(COLUMNS)].astype(COLUMNS)
