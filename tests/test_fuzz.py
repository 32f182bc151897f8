# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from tests import fuzz


@pytest.mark.long
def test_odd_traces_are_read_or_refused(tmp_path: Path) -> None:
    """A few seconds of `python -m tests.fuzz`, always the same inputs; a busy machine may be slow."""
    said: list[str] = []
    counts = fuzz.run(40, seed=1, first=0, out=tmp_path / "failed", say=said.append, longest=60)
    assert counts["failed"] == 0, said
    assert counts["read"] > 8 and counts["refused"] > 8
