# SPDX-License-Identifier: GPL-2.0-only
import shutil
from pathlib import Path

import pytest

from tests.conftest import MS
from toolkit.fleet import rules
from toolkit.paths import PROBES
from toolkit.stalls.thresholds import DEFAULT, Thresholds

PACKAGE = Path(rules.__file__).parent.parent


@pytest.mark.parametrize(
    "changed",
    [
        "toolkit/stalls/stalls.py",
        "toolkit/trace/reader.py",
        "toolkit/driver.py",
        "toolkit/drivers.py",
        "toolkit/fleet/rows.py",
        "probes/event.h",
        "probes/core/core.toml",
    ],
)
def test_a_change_of_what_makes_rows_is_another_version(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(PACKAGE, tmp_path / "toolkit", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PROBES, tmp_path / "probes")
    monkeypatch.setattr(rules, "_PACKAGE", tmp_path / "toolkit")
    monkeypatch.setattr(rules, "PROBES", tmp_path / "probes")
    assert rules.version.__wrapped__() == rules.version()
    with (tmp_path / changed).open("a") as file:
        file.write("\n")
    assert rules.version.__wrapped__() != rules.version()


def test_what_a_run_is_told_is_part_of_its_rules() -> None:
    version = rules.version()
    assert rules.wanted(DEFAULT, None) == version
    assert rules.wanted(DEFAULT, "(?P<host>a)") == f"{version}+(?P<host>a)"
    assert rules.wanted(Thresholds(50 * MS), "(?P<host>a)") == f"{version}+--silence-over+50ms+(?P<host>a)"


def test_a_change_of_what_people_read_is_the_same_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(PACKAGE, tmp_path / "toolkit", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(rules, "_PACKAGE", tmp_path / "toolkit")
    (tmp_path / "toolkit" / "report" / "text.py").write_text("")
    assert rules.version.__wrapped__() == rules.version()
