# SPDX-License-Identifier: GPL-2.0-only
"""A browser for the tests; `make setup-test` installs it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Chromium without a window."""
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    # Its own sandbox needs user namespaces, which a container may lack; it opens only pages made here.
    profile = tmp_path_factory.mktemp("profile")
    for argument in ("--headless", "--no-sandbox", "--disable-dev-shm-usage", f"--user-data-dir={profile}"):
        options.add_argument(argument)
    opened = Chrome(options, ChromeService("/usr/bin/chromedriver"))
    yield opened
    opened.quit()
