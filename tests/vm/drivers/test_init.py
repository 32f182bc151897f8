# SPDX-License-Identifier: GPL-2.0-only
import re
from pathlib import Path

import pytest

from toolkit.errors import UserError
from vm import drivers


def test_variants_say_what_they_are() -> None:
    known = drivers.variants("virtio_net")
    assert list(known)[:2] == ["stock", "rebuilt"]
    assert {"unfixed", "patched"} <= set(known)
    assert known["unfixed"].startswith("The refill worker does not wait for memory")


def test_each_driver_says_what_its_unfixed_variant_lacks() -> None:
    assert drivers.variants("qlge")["unfixed"].startswith("A refill that failed is tried again by the next")
    assert "a prediction of slots" in drivers.variants("xen_netback")["unfixed"]


def test_driver_without_variants_is_told_which_have_some() -> None:
    with pytest.raises(UserError, match=r"no variants of e1000e; there are some of .*virtio_net"):
        drivers.variants("e1000e")


def test_unknown_variant_is_told_which_there_are() -> None:
    with pytest.raises(UserError, match="no variant fixed; it has stock, rebuilt, "):
        drivers.check("virtio_net", "fixed")


def test_a_parameter_is_not_part_of_the_build() -> None:
    assert drivers.split("timer:refill_interval_ms=10") == ("timer", ["refill_interval_ms=10"])
    drivers.check("qlge", "timer:refill_interval_ms=10")
    assert drivers.file_name("qlge", "timer:refill_interval_ms=10") == drivers.file_name("qlge", "timer")


def test_parameter_without_a_value_is_refused() -> None:
    with pytest.raises(UserError, match="refill_interval_ms is no PARAMETER=VALUE"):
        drivers.check("qlge", "timer:refill_interval_ms")


def test_module_of_another_patch_is_another_file() -> None:
    names = {drivers.file_name("virtio_net", variant) for variant in ("rebuilt", "unfixed", "patched")}
    assert len({name.rpartition("-")[2] for name in names}) == 3
    assert all(re.fullmatch(r"virtio_net-[a-z]+-[0-9a-f]{12}\.ko", name) for name in names)


def test_driver_says_what_its_testbed_has() -> None:
    assert drivers.needs("qlge") == drivers.Needs(("drivers/staging/qlge",), ("qlge",))
    assert drivers.needs("aoe").away == "vm.inside.aoe"


def test_driver_that_says_nothing_needs_nothing() -> None:
    assert drivers.needs("e1000e") == drivers.Needs()


def test_unknown_need_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "e1000e").mkdir()
    (tmp_path / "e1000e" / "testbed.toml").write_text("source = []")
    monkeypatch.setattr(drivers, "HERE", tmp_path)
    with pytest.raises(UserError, match=r"e1000e/testbed.toml: unknown key source; known are sources, "):
        drivers.needs("e1000e")


def test_driver_without_probes_says_how_it_is_traced() -> None:
    assert drivers.needs("e100").trace == ("generic", "-d", "eth1")
    assert drivers.needs("virtio_net").trace == ()


def test_nic_whose_model_drops_frames_says_so() -> None:
    assert not drivers.needs("e100").refuses
    assert drivers.needs("virtio_net").refuses
