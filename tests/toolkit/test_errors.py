# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from tests.conftest import Run
from toolkit import traces
from toolkit.errors import UserError, already_there


def test_existing_output_names_the_way_out() -> None:
    error = already_there(Path("out.rxt"))
    assert str(error) == "out.rxt exists; give another name, or --force to replace it."
    assert error.exit_code == 1


@pytest.mark.parametrize("code", [1, 3])
def test_exit_code_of_a_mistake_is_that_of_the_command(
    code: int, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise UserError("this is wrong.", code)

    monkeypatch.setattr(traces, "TraceReader", fail)
    (tmp_path / "a.rxt").touch()
    assert run("analyze", tmp_path / "a.rxt") == (code, "", "toolkit: error: this is wrong.\n")
