# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path
from typing import Any

import pytest
import typer

from toolkit import cli
from toolkit.manual import pages

COMMITTED = Path(__file__).parent.parent.parent / "docs" / "man"


def test_the_committed_pages_are_those_of_the_commands() -> None:
    committed = {path.name: path.read_text() for path in COMMITTED.iterdir()}
    assert committed == pages(), "run `make man`"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_a_page_has_every_option_and_an_example(command: str) -> None:
    text = pages()[f"toolkit-{command}.1"]
    group: Any = typer.main.get_command(cli.app)
    for param in group.commands[command].params:
        for option in param.opts if param.param_type_name == "option" else [param.metavar]:
            assert option.replace("-", r"\-") in text
    assert ".SH EXAMPLE\n" in text
    assert "None" not in text and "`" not in text


def test_roff_does_not_take_a_word_for_a_request() -> None:
    for text in pages().values():
        requests = {line.split()[0] for line in text.splitlines() if line.startswith((".", "'"))}
        assert requests <= {r".\"", ".TH", ".SH", ".TP", ".PP"}
