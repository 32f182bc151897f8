# SPDX-License-Identifier: GPL-2.0-only
import sys

import pytest

from vm.inside.xen import __main__ as command


def test_xen_command_refuses_outside_a_testbed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["vm.xen", "start", "1"])
    assert command.main() == 1
    said = capsys.readouterr().err
    assert said.startswith("vm.xen: error: this is no testbed machine")
    assert said.count("\n") == 1
