# SPDX-License-Identifier: GPL-2.0-only
from dataclasses import replace
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
        ("qlge", set(), "none"),
    ],
)
def test_the_regime_is_told_by_what_was_attached(driver: str, attached: set[str], regime: str) -> None:
    assert program.regime(drivers.load(driver), attached) == regime


@pytest.mark.parametrize(("there", "regime"), [({"retry"}, "timer"), (set(), "none")])
def test_or_by_a_function_that_is_there(
    there: set[str], regime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    symbols = SimpleNamespace(ksymname=lambda name: 0xFFFF if name in there else -1)
    monkeypatch.setattr(program, "bcc", lambda: SimpleNamespace(BPF=symbols))
    regimes = (drivers.Regime("timer", (), ("retry",)), drivers.Regime("none", ()))
    assert program.regime(replace(drivers.load("qlge"), regimes=regimes), set()) == regime
