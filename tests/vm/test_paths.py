# SPDX-License-Identifier: GPL-2.0-only
import threading
from pathlib import Path

import pytest

from vm import paths


def test_checkout_is_the_directory_of_the_testbed() -> None:
    assert (paths.CHECKOUT / "vm" / "paths.py").samefile(paths.__file__)


def test_cache_lies_where_the_user_keeps_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert paths.cache() == tmp_path / "caches" / "rx-stall"
    assert paths.cache().is_dir()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert paths.cache() == tmp_path / "home" / ".cache" / "rx-stall"


def test_each_checkout_has_a_directory_that_only_its_user_enters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one = paths.of_checkout()
    assert one.stat().st_mode & 0o777 == 0o700
    assert one == paths.of_checkout()
    monkeypatch.setattr(paths, "CHECKOUT", tmp_path / "elsewhere")
    two = paths.of_checkout()
    assert two != one and two.parent == one.parent


def test_lock_of_a_name_is_held_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    entered = threading.Event()

    def enter() -> None:
        with paths.locked("one"):
            entered.set()

    waiting = threading.Thread(target=enter)
    with paths.locked("one"):
        waiting.start()
        with paths.locked("another"):
            assert not entered.wait(0.2)
    waiting.join(10)
    assert entered.is_set()
