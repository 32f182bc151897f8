# SPDX-License-Identifier: GPL-2.0-only
import time

import pytest

from toolkit.capture import start
from toolkit.capture.start import Options
from toolkit.live.newcomers import INTERVAL_S, Newcomers


def test_nics_that_come_up_later_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    now, untraced = 1000.0, {"wlan0"}
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(start, "untraced", lambda _, traced: untraced - set(traced))
    newcomers = Newcomers(Options([]))
    assert newcomers.look(["eth0"]) == set()
    untraced |= {"eth0", "eth1"}
    now += INTERVAL_S / 2
    assert newcomers.look(["eth0"]) == set()
    now += INTERVAL_S / 2
    # What was there at the beginning and is not traced is not for this trace.
    assert newcomers.look(["eth0"]) == newcomers.found == {"eth1"}
