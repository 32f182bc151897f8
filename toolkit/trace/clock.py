# SPDX-License-Identifier: GPL-2.0-only
"""Trace time, which is CLOCK_MONOTONIC, and the wall clock of the traced machine.

The two are known together at one moment, when the trace began. A wall clock that is set later is not
followed.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def to_utc(meta: Mapping[str, Any], moments: NDArray[np.int64]) -> pd.DatetimeIndex:
    """Return the wall-clock times, in UTC, of moments in trace time [ns].

    :param meta: the JSON object of the trace.
    """
    clock = meta["clock"]
    since = np.asarray(moments, np.int64) - clock["monotonic_ns"]
    return pd.DatetimeIndex((since + clock["realtime_ns"]).view("datetime64[ns]"), tz="UTC")


def from_utc(meta: Mapping[str, Any], time: datetime) -> int:
    """Return the moment in trace time [ns] of a wall-clock time with a zone; it may be before the trace."""
    clock = meta["clock"]
    since_1970 = (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    return since_1970 - int(clock["realtime_ns"]) + int(clock["monotonic_ns"])
