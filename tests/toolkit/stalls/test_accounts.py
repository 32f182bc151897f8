# SPDX-License-Identifier: GPL-2.0-only
import json
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import UserError
from toolkit.stalls.accounts import read_phases, read_witness


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "[]",
        "{}",
        '{"gaps": 1}',
        '{"device": "a", "gaps": [], "clock": 3}',
        '{"gaps": [{}]}',
        "[" * 100_000,
        json.dumps({"device": "a", "gaps": [], "clock": {"offset_ns": 2**70}}),
        json.dumps({"device": None, "gaps": [], "clock": {"offset_ns": 0}}),
    ],
)
def test_file_that_is_no_witness_is_refused(wrong: str, tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text(wrong)
    with pytest.raises(UserError):
        read_witness(tmp_path / "w.json")
    with pytest.raises(UserError):
        read_witness(tmp_path / "none.json")


def test_phases_have_names_and_times(tmp_path: Path) -> None:
    phases: dict[str, Any] = {"scenario": "knob", "phases": [{"name": "hold", "start_ns": 1, "end_ns": 2}]}
    (tmp_path / "p.json").write_text(json.dumps(phases))
    found = read_phases(tmp_path / "p.json")
    assert found.to_dict("records") == [{"name": "hold", "start": 1, "end": 2, "shortage": False}]
    assert found.attrs["scenario"] == "knob"


def test_only_a_phase_that_says_so_is_a_shortage(tmp_path: Path) -> None:
    phases = [{"name": "a", "start_ns": 1, "end_ns": 2, "shortage": each} for each in (True, False, "no")]
    (tmp_path / "p.json").write_text(json.dumps({"phases": phases}))
    assert read_phases(tmp_path / "p.json")["shortage"].tolist() == [True, False, False]
    (tmp_path / "p.json").write_text('{"phases": []}')
    assert read_phases(tmp_path / "p.json")["shortage"].dtype == bool


def test_file_that_holds_no_phases_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"phases": [{"name": "hold"}]}')
    with pytest.raises(UserError, match="does not hold phases"):
        read_phases(tmp_path / "p.json")
