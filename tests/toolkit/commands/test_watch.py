# SPDX-License-Identifier: GPL-2.0-only
"""What `toolkit watch` refuses; what it shows is in tests/machine/test_watch.py."""

from pathlib import Path

import pytest

from tests.conftest import Run
from toolkit import extras
from toolkit.commands import watch


def test_without_a_terminal(run: Run) -> None:
    code, _, err = run("watch", "virtio_net")
    assert code == 1
    assert "needs a terminal" in err


def test_without_textual(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    code, _, err = run("watch", "virtio_net")
    assert code == 1
    assert "pip install 'rx-stall-toolkit[watch]'" in err


def test_no_driver_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_dir", lambda _: False)
    with pytest.raises(Exception, match="none of these modules is loaded: "):
        watch._loaded()
