# SPDX-License-Identifier: GPL-2.0-only
import numpy as np
import pandas as pd
import pytest

from tests.toolkit.fleet.recorded import arrow, copies
from toolkit.fleet.days import by_day, trend
from toolkit.fleet.frames import frames


def _traces(growth: float, hosts: int = 12, days: int = 6) -> pd.DataFrame:
    """Return a trace of each host on each day; silences grow by a factor each day."""
    of, day = (each.ravel() for each in np.meshgrid(np.arange(hosts), np.arange(days)))
    factors = list(growth**day * (1 + of))
    tables = copies([f"h{host}" for host in of], only="stock/001", stalls=factors, silences=factors)
    traces = frames(arrow(tables)).traces
    return traces.assign(day=pd.Timestamp("2026-11-01") + pd.to_timedelta(day, "D"))


def test_each_day_is_the_mean_of_its_hosts() -> None:
    traces = _traces(1)
    found = by_day(
        pd.concat([traces, traces.head(1).assign(place="again"), traces.tail(1).assign(host=None)])
    )
    assert found["day"].is_monotonic_increasing and len(found) == 6
    assert found["hosts"].tolist() == [12] * 6
    assert found["traces"].tolist() == [13, *[12] * 5]
    # A second trace of a host does not weigh its day.
    assert found["silence_ns_per_h"].nunique() == pytest.approx(1)
    assert (found["low"] < found["silence_ns_per_h"]).all()
    assert (found["high"] > found["silence_ns_per_h"]).all()


def test_a_trend_is_that_of_hosts() -> None:
    assert trend(_traces(1.3))[:3] == (12, 12, 0)
    assert trend(_traces(1.3)).p < 0.001
    falling = trend(_traces(0.8))
    assert falling[:3] == (12, 0, 12) and falling.p < 0.001
    still = trend(_traces(1))
    assert still[:3] == (12, 0, 0) and np.isnan(still.p)


def test_a_trend_of_two_days_is_not_known() -> None:
    assert trend(_traces(2, days=2)).hosts == 0


def test_traces_without_hosts_have_neither_days_nor_a_trend() -> None:
    traces = _traces(1).assign(host=None)
    assert by_day(traces).empty
    assert trend(traces).hosts == 0
