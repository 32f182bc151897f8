# SPDX-License-Identifier: GPL-2.0-only
from types import SimpleNamespace

import pytest

from toolkit import drivers
from toolkit.capture import program


@pytest.mark.parametrize(
    ("driver", "attached", "functions", "regime"),
    [
        ("virtio_net", {"virtnet_refill_work_in"}, set(), "delayed work, NAPI off"),
        ("virtio_net", set(), set(), "NAPI repoll"),
        ("qlge", {"qlge_slow_refill_in"}, set(), "workqueue fallback"),
        ("qlge", set(), {"qlge_retry_refill"}, "timer"),
        ("qlge", set(), set(), "none"),
    ],
)
def test_the_regime_is_told_by_what_the_kernel_has(
    driver: str, attached: set[str], functions: set[str], regime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    symbols = SimpleNamespace(ksymname=lambda name: 0xFFFF if name in functions else -1)
    monkeypatch.setattr(program, "bcc", lambda: SimpleNamespace(BPF=symbols))
    assert program.regime(drivers.load(driver), attached) == regime
