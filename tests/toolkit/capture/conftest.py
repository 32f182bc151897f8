# SPDX-License-Identifier: GPL-2.0-only
import pytest

from tests.toolkit.capture.drained import BLUE, CPUS, NAMES, RING_PAGES, Machine
from tests.toolkit.capture.ring_memory import PAGE
from tests.toolkit.capture.test_start import DEVICES
from toolkit.capture import drain, kernel, maps, program, session, start


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Ring, pool and batches are small, so that all of them go round many times."""
    monkeypatch.setattr(program, "cpus", lambda: CPUS)
    monkeypatch.setattr(maps, "device_name", lambda _, number: NAMES.get(number))
    monkeypatch.setattr(kernel, "devices", lambda *_: DEVICES)
    monkeypatch.setattr(kernel, "namespaces", lambda: {"blue": BLUE})
    monkeypatch.setattr(drain, "POOL_BYTES", 0)
    monkeypatch.setattr(start, "ring_bytes", lambda _: RING_PAGES * PAGE)
    monkeypatch.setattr(drain, "BATCH_EVENTS", 32)
    monkeypatch.setattr(drain, "DRAIN_INTERVAL", 0.001)
    monkeypatch.setattr(drain, "LEAVE_INTERVAL", 0.0)
    monkeypatch.setattr(drain, "FLUSH_INTERVAL", 0.01)
    monkeypatch.setattr(session, "SHOW_INTERVAL", 0.01)
    return Machine()
