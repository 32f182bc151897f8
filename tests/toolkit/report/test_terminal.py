# SPDX-License-Identifier: GPL-2.0-only
import pytest

from tests.conftest import Trace, worker_stall
from toolkit.report import text
from toolkit.stalls.analysis import analyze


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_terminal_shows_whole_numbers_with_units_or_none(
    make_trace: Trace, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text.render(analyze(make_trace(worker_stall(2, 6))), None, terminal=True)
    out = capsys.readouterr().out
    assert "…" not in out
    assert "duration" in out and "[s]" in out and "4.000" in out
    assert max(map(len, out.splitlines())) <= width
    assert ("A wider terminal shows also: waiting [s]" in out) == (width < 200)
