# SPDX-License-Identifier: GPL-2.0-only
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np

from toolkit.trace.clock import from_utc, to_utc

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
META: dict[str, Any] = {
    "clock": {"monotonic_ns": 5_000_000_000, "realtime_ns": int(NOON.timestamp()) * 10**9, "boottime_ns": 0}
}


def test_moment_has_the_wall_clock_time_to_the_nanosecond() -> None:
    assert [time.isoformat() for time in to_utc(META, np.array([5_000_000_000, 6_500_000_001]))] == [
        "2026-01-31T12:00:00+00:00",
        "2026-01-31T12:00:01.500000001+00:00",
    ]
    assert len(to_utc(META, np.empty(0, np.int64))) == 0


def test_time_of_any_zone_is_a_moment() -> None:
    assert from_utc(META, NOON + timedelta(seconds=1.5)) == 6_500_000_000
    assert from_utc(META, datetime(2026, 1, 31, 14, tzinfo=timezone(timedelta(hours=2)))) == 5_000_000_000
    assert from_utc(META, datetime(1, 1, 1, tzinfo=UTC)) < 0
