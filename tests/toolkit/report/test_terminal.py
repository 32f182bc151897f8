# SPDX-License-Identifier: GPL-2.0-only
import pytest

import toolkit
from tests.conftest import Terminal, Trace, worker_stall
from toolkit.report import text


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_terminal_shows_whole_numbers_with_units_or_none(
    make_trace: Trace, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    terminal = Terminal()
    text.render(toolkit.read(make_trace(worker_stall(2, 6))), terminal)
    out = terminal.text()
    assert "…" not in out
    assert "duration" in out and "[s]" in out and "4.000" in out
    assert max(map(len, out.splitlines())) <= width
    assert ("A wider terminal shows also: waiting [s]" in out) == (width < 200)
