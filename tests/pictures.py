# SPDX-License-Identifier: GPL-2.0-only
"""Draw the pictures of docs/images again, from recorded traces: `make pictures`.

timeline.png is the picture of a demo, so `make demo` comes first; without it, the old picture stays.
watch.png is a screen of a machine: it is not made here.
"""

import io
from pathlib import Path
from tempfile import TemporaryDirectory

from selenium.webdriver import Chrome, ChromeOptions, ChromeService

import toolkit
from toolkit.compare.comparison import compare
from toolkit.report import trace_page
from toolkit.report.analyze import timeline
from toolkit.report.compare import distributions

ROOT = Path(__file__).parent.parent
DATA = ROOT / "tests" / "data"
IMAGES = ROOT / "docs" / "images"

TIMELINES = {
    "pressure": DATA / "virtio_net_pressure" / "trace.rxt",
    "spinning": DATA / "virtio_net_spinning" / "trace.rxt",
    "any-nic": DATA / "generic" / "trace.rxt",
    "aoe-hang": DATA / "aoe" / "stock" / "trace.rxt",
    "timeline": ROOT / "out" / "demo" / "trace.rxt",
}
SETS = [DATA / "virtio_net_variants" / name for name in ("stock", "paced")]
WINDOW = {"width": 1080, "height": 1000, "deviceScaleFactor": 1, "mobile": False}


def main() -> None:
    for name, trace in TIMELINES.items():
        if trace.exists():
            with (IMAGES / f"{name}.png").open("wb") as png:
                timeline.render(toolkit.read(trace), png, io.BytesIO())
    with (IMAGES / "compare.png").open("wb") as png:
        distributions.render(compare(*(toolkit.read_set(path).runs for path in SETS)), png, io.BytesIO())
    with TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        with page.open("wb") as file:
            trace_page.render(toolkit.read(TIMELINES["pressure"]), file)
        photograph(page, IMAGES / "report.png")


def photograph(page: Path, png: Path) -> None:
    """Save the top of a page as Chromium shows it."""
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    # Its own sandbox needs user namespaces, which a container may lack; it opens only a page made here.
    for argument in ("--headless", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    browser = Chrome(options, ChromeService("/usr/bin/chromedriver"))
    try:
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", WINDOW)
        browser.get(page.as_uri())
        browser.save_screenshot(str(png))
    finally:
        browser.quit()


if __name__ == "__main__":
    main()
