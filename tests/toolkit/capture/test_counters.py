# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from toolkit.capture import counters, kernel


@pytest.fixture
def nic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the kernel counts of a device that has no counters of its own, as the names of no device have."""
    monkeypatch.setattr(kernel, "NET", tmp_path)
    statistics = tmp_path / "no such one" / "statistics"
    statistics.mkdir(parents=True)
    for name, number in (("rx_packets", 7), ("rx_dropped", 3), ("rx_missed_errors", 0), ("tx_dropped", 5)):
        (statistics / name).write_text(f"{number}\n")
    (statistics / "rx_fifo_errors").write_text("not a number\n")
    return statistics


def test_only_what_was_lost_is_counted(nic: Path) -> None:
    assert nic.is_dir()
    assert counters.read(["no such one", "another"]) == {
        "no such one": {"rx_dropped": 3, "rx_missed_errors": 0}
    }


def test_all_counters_are_read_if_asked_for(nic: Path) -> None:
    assert nic.is_dir()
    assert counters.read_all(["no such one", "another"]) == {
        "no such one": {"rx_packets": 7, "rx_dropped": 3, "rx_missed_errors": 0, "tx_dropped": 5}
    }


def test_growth_is_of_what_grew() -> None:
    before = {"eth1": {"rx_dropped": 3, "rx_missed_errors": 1}, "eth2": {"rx_dropped": 4}, "eth3": {"a": 1}}
    now = {
        "eth1": {"rx_dropped": 10, "rx_missed_errors": 1, "new": 2},
        "eth2": {"rx_dropped": 1},
        "eth4": {"a": 1},
    }
    assert counters.growth(before, now) == {"eth1": {"rx_dropped": 7, "new": 2}}


def test_a_device_without_counters_of_its_own_has_none() -> None:
    assert counters._ethtool("lo") == {}
