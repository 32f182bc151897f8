# SPDX-License-Identifier: GPL-2.0-only
import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from toolkit.errors import UserError
from vm import experiment, outcomes
from vm.experiment import order, plan
from vm.paths import CHECKOUT


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


def test_runs_that_ended_in_a_panic_are_judged_by_it(tmp_path: Path) -> None:
    trace = CHECKOUT / "tests/data/generic"
    for variant in ("stock", "patched"):
        for number in (1, 2, 3):
            run = tmp_path / f"runs/{variant}/{number:03}"
            run.mkdir(parents=True)
            if variant == "stock":
                (run / outcomes.PANIC).write_text("BUG:\nKernel panic\n")
            else:
                (run / "trace.rxt").symlink_to(trace / "trace.rxt")
    said: list[str] = []
    verdict = experiment.judge(plan("e100", seed=1), tmp_path, said.append)
    assert [each["verdict"] for each in verdict["outcomes"]] == ["improved"]
    assert verdict["comparisons"] == []
    assert said == [f"stock -> patched: {verdict['outcomes'][0]['sentence']}"]
    assert json.loads((tmp_path / "verdict.json").read_text()) == verdict


def test_a_panic_of_the_driver_is_a_run_that_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def panics(*_: object) -> None:
        raise outcomes.PanicError("the kernel panicked in e100_poll+0x22a", "BUG:\n")

    monkeypatch.setattr(experiment, "_once", panics)
    said: list[str] = []
    experiment._until_usable(plan("e100", seed=1), "stock", 1, tmp_path, None, said.append)
    assert (tmp_path / "runs/stock/001" / outcomes.PANIC).read_text() == "BUG:\n"
    assert said == ["  the kernel panicked in e100_poll+0x22a"]
    assert outcomes.read(tmp_path / "runs/stock") == [{"panic"}]
