# SPDX-License-Identifier: GPL-2.0-only
import subprocess
import sys

import pytest


@pytest.mark.parametrize("name", ["knob", "pressure"])
def test_scenario_that_starves_its_own_machine_is_light(name: str) -> None:
    """It is locked in memory while there is none: what it imports is what it takes."""
    code = f"import sys, vm.scenarios.{name}; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"numpy", "pyarrow", "pandas", "vm.guest"} & set(modules.split())
