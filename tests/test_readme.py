# SPDX-License-Identifier: GPL-2.0-only
"""What the pages show is what the tool prints today; pages lead somewhere and fit on a screen."""

import re
from itertools import dropwhile, takewhile
from pathlib import Path

import pytest

from tests.conftest import Run

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [
    README,
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/upstream").rglob("*.md")),
    *(ROOT / "docs" / name / "README.md" for name in ("container", "monitoring")),
    *sorted((ROOT / "probes").glob("*/README.md")),
    *(ROOT / directory / "README.md" for directory in ("analysis", "vm")),
]


def _command(page: Path, beginning: str) -> list[str]:
    """Return the words of a command on a page, from the checkout's root, without what it writes."""
    (line,) = [line for line in page.read_text().splitlines() if line.startswith(f"    {beginning}")]
    words = line.split(" -o ")[0].split()[1:]
    return [str(ROOT / word) if word.startswith("tests/") else word for word in words]


def _pattern(sample: str) -> str:
    """Return a regular expression for a sample: lines may break elsewhere, and … stands for anything."""
    words = [re.escape(word).replace("…", ".*?") for word in sample.split()]
    return r"\s+".join(words).replace(r"\s+.*?", ".*?").replace(r".*?\s+", ".*?")


@pytest.mark.parametrize(
    ("page", "command", "first_words"),
    [
        (README, "toolkit analyze tests/", "eth1 went deaf once in"),
        pytest.param(
            ROOT / "docs" / "comparison.md",
            "toolkit compare tests/",
            "improved: From",
            marks=pytest.mark.long,
        ),
    ],
    ids=["analyze", "compare"],
)
def test_sample_is_what_the_command_prints(page: Path, command: str, first_words: str, run: Run) -> None:
    lines = page.read_text().splitlines()
    below = dropwhile(lambda line: not line.startswith(f"    {first_words}"), lines)
    sample = "\n".join(takewhile(lambda line: line.startswith("    ") or not line, below))
    assert sample
    code, out, _ = run(*_command(page, command))
    assert code == 0
    assert re.match(_pattern(sample), out, re.DOTALL), out


def test_first_page_fits_on_one_screen() -> None:
    assert len(README.read_text().splitlines()) <= 66


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_fit_in_120_columns(page: Path) -> None:
    assert [line for line in page.read_text().splitlines() if len(line) > 120] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def _anchors(page: Path) -> set[str]:
    """Return the anchors that a hosting site makes of a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_headings(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]*\.md)?#([^)]*)\)", page.read_text())
    missing = [
        (file, anchor)
        for file, anchor in links
        if anchor not in _anchors(page.parent / file if file else page)
    ]
    assert missing == []
