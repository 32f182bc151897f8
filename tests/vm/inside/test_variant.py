# SPDX-License-Identifier: GPL-2.0-only
import importlib
import sys
from pathlib import Path

import pytest

from vm import drivers
from vm.inside import testbed, variant

DRIVERS = sorted(path.parent.name for path in drivers.HERE.glob("*/Kbuild"))


def _run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["variant", *words])
    return variant.main()


def test_variants_of_a_driver_are_listed_anywhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "qlge") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(drivers.variants("qlge"))
    assert lines[0] == "stock      The distribution's module, untouched."


@pytest.mark.parametrize("options", [[], ["--build-only"]])
def test_module_is_left_alone_outside_a_testbed(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(testbed, "MARKER", tmp_path / "marker")
    assert _run(monkeypatch, "qlge", "unfixed", *options) == 1
    assert capsys.readouterr().err.startswith("variant: error: this is no testbed machine")


def test_variant_is_built_or_loaded_in_a_testbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "marker").touch()
    monkeypatch.setattr(testbed, "MARKER", tmp_path / "marker")
    loaded: list[str] = []
    monkeypatch.setattr(variant, "build", lambda driver, name, tree: f"/{driver}-{name}{tree.root}")
    monkeypatch.setattr(variant, "load", lambda *words: loaded.append(" ".join(words)))
    assert _run(monkeypatch, "qlge", "unfixed", "--build-only") == 0
    assert (capsys.readouterr().out, loaded) == ("/qlge-unfixed/\n", [])
    assert _run(monkeypatch, "qlge", "unfixed") == 0
    assert (capsys.readouterr().out, loaded) == ("", ["qlge unfixed"])


def test_unknown_driver_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "e1000e") == 1
    assert capsys.readouterr().err.startswith("variant: error: There are no variants of e1000e")


@pytest.mark.parametrize("driver", DRIVERS)
def test_users_of_a_driver_have_a_function_that_makes_them_let_go(driver: str) -> None:
    name = drivers.needs(driver).away
    if name:
        assert callable(importlib.import_module(name).away)


def test_nobody_has_to_let_go_of_a_driver_that_nobody_holds() -> None:
    with variant._away("virtio_net") as nothing:
        assert nothing is None
