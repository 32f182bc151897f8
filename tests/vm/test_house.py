# SPDX-License-Identifier: GPL-2.0-only
"""What is of one driver stands where that driver's things stand."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

from vm.paths import CHECKOUT

VM = CHECKOUT / "vm"
OF_DRIVERS = [*(VM / "models").glob("*_nic"), *(VM / "inside" / room for room in ("aoe", "scenarios", "xen"))]
"""Where a driver may be named: its model, its disk or guests, and scenarios, of which some are for one."""

DRIVERS = sorted(path.parent.name for path in (CHECKOUT / "probes").glob("*/driver.toml"))
DRIVER = re.compile(rf"\b({'|'.join(DRIVERS)})\b")
NAMED = re.compile(DRIVER.pattern.replace("_", "[-_]"))


def _code(source: str) -> str:
    """Return Python without its comments and docstrings, which may give an example."""
    texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Expr)]
    starts = {(text.lineno, text.col_offset) for text in texts if isinstance(text, ast.Constant)}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return " ".join(
        each.string for each in tokens if each.type != tokenize.COMMENT and each.start not in starts
    )


def _sources() -> list[Path]:
    paths = [path for path in sorted(VM.rglob("*.py")) if "__pycache__" not in path.parts]
    return [path for path in paths if not {*path.parents} & {*OF_DRIVERS}]


@pytest.mark.parametrize("path", _sources(), ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_no_driver_is_named_in_code_for_all(path: Path) -> None:
    assert NAMED.findall(_code(path.read_text())) == []


def _recipes() -> list[Path]:
    image = [path for path in (VM / "image/box").rglob("*") if path.is_file()]
    return [*sorted(image), VM / "vagrant/provision.sh", VM / "vagrant/Vagrantfile"]


@pytest.mark.parametrize("path", _recipes(), ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_no_driver_is_named_in_what_machines_are_made_of(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert DRIVER.findall("\n".join(line for line in lines if not line.lstrip().startswith("#"))) == []


def test_a_driver_that_is_named_is_seen() -> None:
    assert NAMED.findall(_code('"""virtio_net"""\nx = "virtio-net"  # qlge\nimport aoe\n')) == [
        "virtio-net",
        "aoe",
    ]
