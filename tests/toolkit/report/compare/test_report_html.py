# SPDX-License-Identifier: GPL-2.0-only
import io
import re

import pytest

from tests.conftest import runs_of
from toolkit.compare.comparison import compare
from toolkit.report.compare import distributions, report_html

LOW, HIGH = [1.0, 2, 3, 4, 5], [11.0, 12, 13, 14, 15]
SVG = b'<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg><path/></svg>'


def _page(variant: str = "patched") -> str:
    base, candidate = runs_of(HIGH), runs_of([*LOW, 1], variant, dropped=[0] * 5 + [1])
    base.attrs["path"], candidate.attrs["path"] = "runs/stock", "my runs/patched"
    found = compare(base, candidate)
    page = io.BytesIO()
    report_html.render(found, page)
    return page.getvalue().decode()


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes long and is tested in test_distributions."""
    monkeypatch.setattr(distributions, "render", lambda _found, _png, svg: svg.write(SVG))


def test_the_verdict_comes_first() -> None:
    body = _page().split("<body>")[1].strip()
    assert body.startswith('<h1>improved</h1>\n<p class="sentence">From stock to patched')


def test_page_has_the_drawing_the_table_what_was_set_aside_and_the_command() -> None:
    text = _page()
    assert "<svg><path/></svg>" in text
    assert "<?xml" not in text
    assert text.count("<tr>") == 1 + 9 + 1 + 1
    assert "patched/5/trace.rxt</code></td><td>candidate</td><td>events were dropped" in text
    assert "toolkit compare runs/stock &#39;my runs/patched&#39;" in text


def test_page_of_a_comparison_needs_no_other_file() -> None:
    assert not re.search(r"(src|href)=|url\(|@import|<script", _page())


def test_markup_in_a_trace_is_shown_as_text() -> None:
    text = _page("<b>bold</b>")
    assert "<b>" not in text
    assert "&lt;b&gt;bold" in text


def test_a_caveat_comes_before_the_numbers() -> None:
    found = compare(runs_of(HIGH, rate=600.0, size=60.0), runs_of(LOW, "patched", rate=6000.0, size=1500.0))
    page = io.BytesIO()
    report_html.render(found, page)
    html = page.getvalue().decode()
    assert '<p class="care">The runs differ in more than the build: the load' in html
