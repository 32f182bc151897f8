# SPDX-License-Identifier: GPL-2.0-only
import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from toolkit.errors import UserError
from vm import experiment
from vm.experiment import order, plan


def test_plan_is_the_drivers_own_choice() -> None:
    found = plan("virtio_net")
    assert found.machine == "virtio-net"
    assert found.variants == ("unfixed", "stock", "patched")
    assert found.scenario == ("pressure",)
    assert plan("virtio_net").seed != found.seed


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"builds": ["stock", "cured"]}, "no variant cured"),
        ({"builds": ["stock", "stock"]}, "each variant once"),
        ({"scenario": ["testbed"]}, "no scenario testbed"),
        ({"machine": "virtio-net-9nics"}, "No machine is called"),
    ],
)
def test_unknown_variant_scenario_or_machine_is_named(options: dict[str, list[str]], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        plan("virtio_net", **options)  # type: ignore[arg-type]


def test_order_is_balanced_and_shuffled() -> None:
    found = order(plan("virtio_net", seed=1), 20)
    assert Counter(found) == {(name, n): 1 for name in ("unfixed", "stock", "patched") for n in range(1, 21)}
    blocks = [tuple(name for name, _ in found[at : at + 3]) for at in range(0, 60, 3)]
    assert all(len(set(block)) == 3 for block in blocks)
    assert len(set(blocks)) > 3


def test_more_runs_of_a_seed_only_append() -> None:
    some = plan("virtio_net", seed=7)
    assert order(some, 5)[:9] == order(some, 3)
    assert order(some, 5) != order(replace(some, seed=8), 5)


def test_directory_of_another_experiment_is_refused(tmp_path: Path) -> None:
    old = plan("virtio_net", seed=1, scenario=["knob", "--times", "2"])
    (tmp_path / "manifest.json").write_text(json.dumps({"plan": asdict(old)}))
    with pytest.raises(UserError, match=r"holds another experiment: its scenario is"):
        experiment.run(plan("virtio_net", seed=1), 1, tmp_path)
    assert experiment.seed_of(tmp_path) == 1


def test_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="not empty and holds no experiment"):
        experiment.run(plan("virtio_net"), 1, tmp_path)
