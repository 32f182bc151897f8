# SPDX-License-Identifier: GPL-2.0-only
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from vm.inside import scenarios, testbed

NAMES = sorted(path.stem for path in Path(scenarios.__path__[0]).glob("[a-z]*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_scenario_refuses_to_run_outside_a_testbed_machine(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(testbed, "MARKER", tmp_path / "marker")
    monkeypatch.setattr(sys, "argv", [name, "-o", str(tmp_path / "phases.json")])
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(f"vm.inside.scenarios.{name}").main()
    assert stopped.value.code == 1
    assert capsys.readouterr().err == (
        f"{name} starves the machine that it runs on; "
        f"this is no testbed machine ({tmp_path / 'marker'} is missing), so it does not.\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_scenario_says_what_its_options_are(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(f"vm.inside.scenarios.{name}").main()
    assert stopped.value.code == 0
    assert "--output" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["knob", "pressure"])
def test_scenario_that_starves_its_own_machine_is_light(name: str) -> None:
    """It is locked in memory while there is none: what it imports is what it takes."""
    code = f"import sys, vm.inside.scenarios.{name}; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"numpy", "pyarrow", "pandas", "vm.guest"} & set(modules.split())
