# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from tests.toolkit.fleet.recorded import copies, recorded, write
from toolkit.errors import UserError
from toolkit.fleet.overview import look
from toolkit.report import fleet_page


@pytest.mark.long
def test_the_page_says_what_the_text_says(tmp_path: Path) -> None:
    hosts = [f"h{number}" for number in range(20)]
    builds = ["new" if number % 2 else "<old>" for number in range(20)]
    tables = copies(hosts, only="virtio_net_variants/stock", build=builds, stalls=[1, 0.1] * 10)
    found = look(write(tables, tmp_path / "fleet"), "build=<old>", "build=new")
    page = fleet_page.render(found, tmp_path / "fleet.html")
    assert "<h1>20 of 20 hosts were silent, up to " in page
    assert "<h2>Before and after: improved</h2>" in page
    assert "&lt;old&gt;" in page and "<old>" not in page
    assert page.count("<svg") == 6
    assert "--before &#39;build=&lt;old&gt;&#39; --after build=new --html" in page
    assert "<b>napi-off</b>: " in page
    assert "nan" not in page.partition("<svg")[0].lower()


@pytest.mark.long
def test_a_fleet_without_hosts_has_a_page(tmp_path: Path) -> None:
    page = fleet_page.render(look(write(recorded(), tmp_path / "fleet")))
    assert "<h1>Hosts are not known; " in page
    assert page.count("<svg") == 3
    assert "Before and after" not in page


@pytest.mark.usefixtures("no_drawings")
def test_a_page_is_not_replaced(tmp_path: Path) -> None:
    found = look(write(copies(["a"]), tmp_path / "fleet"))
    file = tmp_path / "fleet.html"
    fleet_page.save(found, file)
    with pytest.raises(UserError, match="--force"):
        fleet_page.save(found, file)
    fleet_page.save(found, file, force=True)
