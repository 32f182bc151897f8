# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from toolkit.live import surroundings


def test_this_machine_says_what_it_can() -> None:
    found = surroundings.read(["lo", "no such device"])
    assert found["meminfo"]["MemTotal"] > 0
    assert "Node 0" in found["zoneinfo"]
    assert found["counters"].keys() == {"lo"} and found["counters"]["lo"]["tx_packets"] >= 0
    assert len(found["kernel_log"]) <= surroundings.MESSAGES


def test_what_is_not_there_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "_PROC", tmp_path)
    found = surroundings.read([])
    assert found["pressure"] == {} and "meminfo" not in found and "zoneinfo" not in found
