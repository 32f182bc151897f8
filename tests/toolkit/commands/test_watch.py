# SPDX-License-Identifier: GPL-2.0-only
"""What `toolkit watch` refuses; what it shows is in tests/machine/test_watch.py."""

import pytest

from tests.conftest import Run
from toolkit import extras


def test_watch_needs_a_terminal(run: Run) -> None:
    code, _, err = run("watch", "virtio_net")
    assert code == 1
    assert "needs a terminal" in err


def test_watch_without_textual_names_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    code, _, err = run("watch", "virtio_net")
    assert code == 1
    assert "pip install '.[watch]'" in err
