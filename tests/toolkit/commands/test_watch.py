# SPDX-License-Identifier: GPL-2.0-only
"""What `toolkit watch` refuses; what it shows is in tests/machine/test_watch.py."""

from pathlib import Path

import pytest

from tests.conftest import Run
from toolkit import extras
from toolkit.capture import kernel
from toolkit.commands import watch
from toolkit.errors import UserError


def test_watch_needs_a_terminal(run: Run) -> None:
    code, _, err = run("watch", "virtio_net")
    assert code == 1
    assert "needs a terminal" in err


def test_watch_without_textual_names_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    code, _, err = run("watch", "virtio_net")
    assert code == 1
    assert "pip install '.[watch]'" in err


def test_watch_without_a_loaded_driver_names_the_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "MODULES", tmp_path)
    with pytest.raises(UserError) as error:
        watch._loaded()
    assert str(error.value) == "none of these modules is loaded: aoe, qlge, virtio_net, xen_netback."


def test_drivers_that_are_loaded_are_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "MODULES", tmp_path)
    for module in ("e1000e", "qlge", "aoe"):
        (tmp_path / module).mkdir()
    assert [driver.name for driver in watch._loaded()] == ["aoe", "qlge"]
