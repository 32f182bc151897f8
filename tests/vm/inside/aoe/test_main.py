# SPDX-License-Identifier: GPL-2.0-only
import sys

import pytest

from vm.inside.aoe import __main__ as command


def test_aoe_command_touches_no_disk_outside_a_testbed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["python -m vm.aoe", "start"])
    assert command.main() == 1
    assert capsys.readouterr().err.startswith("vm.aoe: error: this is no testbed machine")
