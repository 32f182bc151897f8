# SPDX-License-Identifier: GPL-2.0-only
import sys

import pytest

from vm.inside import nics


def test_drivers_are_loaded_in_a_testbed_machine_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["nics", "igb"])
    assert nics.main() == 1
    assert capsys.readouterr().err.startswith("vm.inside.nics: error: this is no testbed machine")


def test_a_module_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["nics"])
    with pytest.raises(SystemExit) as end:
        nics.main()
    assert end.value.code == 2
