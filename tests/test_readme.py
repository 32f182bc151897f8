# SPDX-License-Identifier: GPL-2.0-only
"""What README.md shows is what the tool prints today; pages lead somewhere and fit on a screen."""

import re
from itertools import dropwhile, takewhile
from pathlib import Path

import pytest

from tests.conftest import Run

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "vm" / "README.md"]


def _command(beginning: str) -> list[str]:
    """Return the words of a command of README.md, from the checkout's root, without what it writes."""
    (line,) = [line for line in README.splitlines() if line.startswith(f"    {beginning}")]
    words = line.split(" -o ")[0].split()[1:]
    return [str(ROOT / word) if word.startswith("tests/") else word for word in words]


def _pattern(sample: str) -> str:
    """Return a regular expression for a sample: lines may break elsewhere, and … stands for anything."""
    words = [re.escape(word).replace("…", ".*?") for word in sample.split()]
    return r"\s+".join(words).replace(r"\s+.*?", ".*?").replace(r".*?\s+", ".*?")


@pytest.mark.parametrize(
    ("command", "first_words"),
    [
        ("toolkit analyze tests/", "eth1 went deaf once in"),
        pytest.param("toolkit compare tests/", "improved: From", marks=pytest.mark.long),
    ],
)
def test_sample_is_what_the_command_prints(command: str, first_words: str, run: Run) -> None:
    below = dropwhile(lambda line: not line.startswith(f"    {first_words}"), README.splitlines())
    sample = "\n".join(takewhile(lambda line: line.startswith("    ") or not line, below))
    assert sample
    code, out, _ = run(*_command(command))
    assert code == 0
    assert re.match(_pattern(sample), out, re.DOTALL), out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_fit_in_120_columns(page: Path) -> None:
    assert [line for line in page.read_text().splitlines() if len(line) > 120] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert links and [link for link in links if not (page.parent / link).exists()] == []
