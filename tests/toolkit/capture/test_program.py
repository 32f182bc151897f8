# SPDX-License-Identifier: GPL-2.0-only
from types import SimpleNamespace

import pytest

from toolkit import drivers
from toolkit.capture import program


@pytest.mark.parametrize(
    ("driver", "attached", "regime"),
    [
        ("virtio_net", {"virtnet_refill_work_in"}, "delayed work, NAPI off"),
        ("virtio_net", set(), "NAPI repoll"),
        ("qlge", {"qlge_slow_refill_in"}, "workqueue fallback"),
    ],
)
def test_the_regime_is_told_by_what_was_attached(driver: str, attached: set[str], regime: str) -> None:
    assert program.regime(drivers.load(driver), attached) == regime


@pytest.mark.parametrize(("there", "regime"), [({"qlge_retry_refill"}, "timer"), (set(), "none")])
def test_or_by_a_function_that_is_there(
    there: set[str], regime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    symbols = SimpleNamespace(ksymname=lambda name: 0xFFFF if name in there else -1)
    monkeypatch.setattr(program, "bcc", lambda: SimpleNamespace(BPF=symbols))
    assert program.regime(drivers.load("qlge"), set()) == regime
