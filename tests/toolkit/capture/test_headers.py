# SPDX-License-Identifier: GPL-2.0-only
"""That the probes compile against them is shown on three kernels (tests/machine/test_capture.py)."""

import os
from pathlib import Path

import pytest

from toolkit.capture import headers
from toolkit.errors import UserError
from toolkit.paths import PROBES


@pytest.mark.parametrize(
    ("release", "code"),
    [
        ("6.1.0-56-amd64", 0x060100),
        ("6.12.90+deb13-amd64", 0x060C5A),
        ("7.3-rc1", 0x070300),
        ("5.4.300", 0x0504FF),
    ],
)
def test_version_code_is_that_of_the_kernel(release: str, code: int) -> None:
    assert headers._version_code(release) == code


def test_kernel_source_of_the_user_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCC_KERNEL_SOURCE", "/usr/src/mine")
    with headers._kernel_source(PROBES / "headers"):
        assert os.environ["BCC_KERNEL_SOURCE"] == str(PROBES / "headers")
    assert os.environ["BCC_KERNEL_SOURCE"] == "/usr/src/mine"
    with headers.from_distribution() as found:
        assert found.title == "the headers in /usr/src/mine"


def test_missing_headers_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BCC_KERNEL_SOURCE", raising=False)
    monkeypatch.setattr(Path, "exists", lambda _: False)
    with (
        pytest.raises(UserError, match=r"install them \(Debian: apt install linux-headers-"),
        headers.from_distribution(),
    ):
        pass


def test_headers_include_nothing_but_themselves() -> None:
    """bcc looks nowhere else, since the kernel's own are not there."""
    own = {str(path.relative_to(PROBES / "headers/include")) for path in (PROBES / "headers").rglob("*.h")}
    included = {
        line.split("<")[1].split(">")[0]
        for path in (PROBES / "headers").rglob("*.h")
        for line in path.read_text().splitlines()
        if line.startswith("#include")
    }
    assert included == {"linux/types.h"} <= own
