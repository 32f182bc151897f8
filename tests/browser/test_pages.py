# SPDX-License-Identifier: GPL-2.0-only
"""The pages as a browser shows them, of traces recorded on real machines."""

from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

import toolkit
from tests.toolkit.fleet.recorded import fleet_of, write
from toolkit import report
from toolkit.compare.comparison import compare
from toolkit.fleet import overview
from toolkit.report import fleet_page, trace_page

DATA = Path(__file__).parent.parent / "data"
STALLED = DATA / "virtio_net_variants" / "stock" / "001" / "trace.rxt"

# Of each drawing, the texts that lie one on the other: matplotlib writes each as a group of glyphs.
OVERLAPS = """
const clash = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
                        Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
return [...document.querySelectorAll('svg')].flatMap(svg => {
  const texts = [...svg.querySelectorAll('g[id^=text_]')]
    .map(g => ({id: g.id, box: g.getBoundingClientRect()})).filter(t => t.box.width > 0);
  return texts.flatMap((a, i) => texts.slice(i + 1).filter(b => clash(a.box, b.box)).map(b => [a.id, b.id]));
});
"""
BESIDE = """
return [...document.querySelectorAll('svg')].flatMap(svg => {
  const out = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('g[id^=text_], g[id^=legend_]')].filter(g => {
    const box = g.getBoundingClientRect();
    return box.width > 0 && (box.left < out.left - 1 || box.right > out.right + 1);
  }).map(g => g.id);
});
"""
WIDTHS = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
CUT = "return [...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth).length"
CONTRAST = """
const shade = c => { const [r, g, b] = c.match(/[0-9.]+/g).map(Number); return (r + g + b) / 765; };
const body = getComputedStyle(document.body);
const drawing = getComputedStyle(document.querySelector('svg'));
return [shade(body.backgroundColor), shade(body.color), drawing.filter];
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of a trace with one queue, of one with two rings a queue, that of a comparison, and that of
    a fleet of 10,000 traces: copies."""
    folder = tmp_path_factory.mktemp("pages")
    traces = {"trace.html": STALLED, "rings.html": DATA / "qlge" / "stock" / "trace.rxt"}
    for name, path in traces.items():
        with (folder / name).open("wb") as file:
            trace_page.render(toolkit.read(path), file)
    sets = (toolkit.read_set(DATA / "virtio_net_variants" / name).runs for name in ("stock", "paced"))
    report.save("compare", compare(*sets), folder)
    fleet = write(fleet_of(1000, 10_000), folder / "fleet")
    fleet_page.save(overview.look(fleet, "kernel=6.1.*", "kernel=6.12.*"), folder / "fleet.html")
    names = {"trace": "trace.html", "rings": "rings.html", "comparison": "report.html", "fleet": "fleet.html"}
    return {name: folder / file for name, file in names.items()}


def _open(browser: Chrome, page: Path, width: int = 1100, **media: Any) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 1400, "deviceScaleFactor": 1, "mobile": False},
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(page.as_uri())


def test_what_it_says(browser: Chrome, pages: dict[str, Path]) -> None:
    _open(browser, pages["trace"])
    stalls = toolkit.read(STALLED).stalls
    assert browser.find_element(By.TAG_NAME, "h1").text == "3 stalls, up to 16.185 s"
    assert browser.find_element(By.CLASS_NAME, "sentence").text.startswith("eth1 went deaf 3 times in 62.8 s")
    rows = browser.find_element(By.TAG_NAME, "table").find_elements(By.CSS_SELECTOR, "tbody tr")
    shown = [float(row.find_elements(By.TAG_NAME, "td")[4].text) for row in rows]
    assert shown == pytest.approx(stalls["duration_ns"] / 1e9, abs=0.0005)
    drawings = browser.find_elements(By.TAG_NAME, "svg")
    assert len(drawings) == 4
    assert all(each.size["width"] > 300 and each.size["height"] > 150 for each in drawings)


@pytest.mark.parametrize("page", ["trace", "rings", "comparison", "fleet"])
def test_nothing_overlaps_is_cut_or_fetched(browser: Chrome, pages: dict[str, Path], page: str) -> None:
    _open(browser, pages[page])
    assert browser.execute_script(OVERLAPS) == []
    assert browser.execute_script(BESIDE) == []
    assert browser.execute_script(CUT) == 0
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    for width in (1600, 1100, 400):
        _open(browser, pages[page], width)
        wide, window = browser.execute_script(WIDTHS)
        assert wide <= window


@pytest.mark.parametrize("page", ["trace", "rings", "comparison", "fleet"])
def test_light_dark_and_on_paper(browser: Chrome, pages: dict[str, Path], page: str) -> None:
    scheme = {"name": "prefers-color-scheme", "value": "light"}
    _open(browser, pages[page], features=[scheme])
    paper, ink, drawing = browser.execute_script(CONTRAST)
    assert paper > 0.95 and ink < 0.2 and drawing == "none"
    _open(browser, pages[page], features=[scheme | {"value": "dark"}])
    paper, ink, drawing = browser.execute_script(CONTRAST)
    assert paper < 0.2 and ink > 0.8 and drawing.startswith("invert")
    # A4 with margins of 1.2 cm; dark on the screen is light on paper.
    _open(browser, pages[page], 703, media="print", features=[scheme | {"value": "dark"}])
    paper, ink, drawing = browser.execute_script(CONTRAST)
    assert paper > 0.95 and ink < 0.2 and drawing == "none"
    wide, window = browser.execute_script(WIDTHS)
    assert wide <= window


def test_page_of_a_fleet(browser: Chrome, pages: dict[str, Path]) -> None:
    assert pages["fleet"].stat().st_size < 5_000_000
    _open(browser, pages["fleet"])
    assert browser.find_element(By.TAG_NAME, "h1").text.startswith("941 of 941 hosts were silent, up to ")
    titles = [each.text for each in browser.find_elements(By.TAG_NAME, "h2")]
    assert titles[0] == "Before and after: no difference seen"
    assert titles[1:3] == ["Which hosts", "Which kernels, drivers and builds"]
    text = browser.find_element(By.TAG_NAME, "body").text
    assert "1 outlier: host-0001" in text
    assert "Hosts: the 20 most silent, 922 more are in the dataset" in text
    assert len(browser.find_elements(By.TAG_NAME, "svg")) == 6
    # A table is not wider than the page of a desk.
    assert browser.execute_script(CUT) == 0
