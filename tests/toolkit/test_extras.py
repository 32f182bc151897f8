# SPDX-License-Identifier: GPL-2.0-only
import sys
import tomllib
from pathlib import Path

import pytest

from toolkit import extras
from toolkit.errors import UserError

ROOT = Path(__file__).parent.parent.parent


def test_modules_that_are_there_are_no_mistake() -> None:
    extras.need("watch", "json", "textual")


def test_missing_modules_are_named_with_their_extra() -> None:
    with pytest.raises(UserError) as error:
        extras.need("metrics", "json", "no_such_module", "nor_this")
    assert str(error.value) == (
        "this needs no_such_module, nor_this, which is not installed; "
        f"in the toolkit's checkout, run: {sys.executable} -m pip install '.[metrics]'"
    )


def test_a_missing_package_of_no_extra_comes_with_the_toolkit() -> None:
    assert str(extras.missing("pandas")).endswith(f"{sys.executable} -m pip install '.'")


def test_where_pip_may_not_install_a_virtual_environment_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    monkeypatch.setattr(extras, "get_path", lambda _: str(tmp_path))
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert str(extras.missing("dask", extra="fleet")).endswith(
        "in a virtual environment, in the toolkit's checkout, run: pip install '.[fleet]'"
    )


def test_each_extra_that_is_named_exists() -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        line.split('need("')[1].split('"')[0]
        for path in (ROOT / "toolkit").rglob("*.py")
        for line in path.read_text().splitlines()
        if 'need("' in line
    }
    assert named and named <= set(known)
