# SPDX-License-Identifier: GPL-2.0-only
import sys

import pytest

from vm.xen import __main__ as command


def test_it_leaves_other_machines_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["vm.xen", "start", "1"])
    assert command.main() == 1
    said = capsys.readouterr().err
    assert said.startswith("vm.xen: error: this is no testbed machine")
    assert said.count("\n") == 1
