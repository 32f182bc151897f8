# SPDX-License-Identifier: GPL-2.0-only
"""Which runs are done, kept and repeated, with machines that are only said to run."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from toolkit.errors import UserError
from vm import guest, machines, trial
from vm.qemu.command import mac
from vm.survey import runs
from vm.trial import Traffic

DEVICES = [f"eth{number + 1}" for number in range(len(machines.find("nics").nics))]
DEADLY = "eth8"
PANIC = "BUG: kernel NULL pointer dereference, address: 8; RIP: 0010:poll+0x22a/0x5e0 [module8]"
CONSOLE = """[    1.0] Linux version 6.1
[   98.1] BUG: kernel NULL pointer dereference, address: 8
[   98.2] RIP: 0010:poll+0x22a/0x5e0 [module8]
[   98.3] RIP: 0010:poll+0x22a/0x5e0 [module8]
"""


@dataclass
class Machine:
    """A machine that panics when frames come for DEADLY; its other NICs take 100 frames a run."""

    kind: str
    files: Any
    lives: bool = True
    taken: int = 0

    @property
    def machine(self) -> machines.Machine:
        return machines.find(self.kind)

    def alive(self) -> bool:
        return self.lives

    def ssh(self, command: str, **_: Any) -> Any:
        devices = re.findall(r"/net/eth([0-9]+)/(?:address|statistics)", command)
        answer = ""
        if "address" in command:
            answer = f"{mac(int(devices[0]) - 1)}\ndriver{devices[0]}\nmodule{devices[0]}\n"
        elif "statistics" in command:
            self.taken += 100
            answer = f"{self.taken}\n" * len(devices)
        elif "uname" in command:
            answer = "6.1.0-56-amd64\n"
        return SimpleNamespace(stdout=answer, stderr="", returncode=0)


@pytest.fixture
def booted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The NICs that received in each run, a list for each machine that was booted."""
    found: list[list[str]] = []
    console = tmp_path / "console.log"
    console.write_text(CONSOLE)

    @contextmanager
    def machine(kind: str) -> Iterator[Machine]:
        found.append([])
        yield Machine(kind, SimpleNamespace(console=console))

    @contextmanager
    def tracing(_: Machine, driver: str, _path: str, **_options: Any) -> Iterator[None]:
        assert driver == ""
        yield

    def run(machine: Machine, _: str, out: Path, *, traffic: dict[Path, Traffic], **_more: Any) -> None:
        assert [path.name for path in traffic] == [f"eth{each.nic + 1}.json" for each in traffic.values()]
        found[-1] += [path.stem for path in traffic]
        (out / "trace.rxt").touch()
        if DEADLY in [path.stem for path in traffic]:
            machine.lives = False
            raise UserError("no answer")

    monkeypatch.setattr(guest, "machine", machine)
    monkeypatch.setattr(trial, "tracing", tracing)
    monkeypatch.setattr(trial, "run", run)
    return found


def _facts(out: Path, name: str, number: int) -> Any:
    return json.loads((out / "nics" / name / f"{number:03}" / "facts.json").read_text())


def test_driver_that_kills_the_machine_is_run_alone_from_then_on(
    booted: list[list[str]], tmp_path: Path
) -> None:
    runs.run(["nics"], 2, tmp_path, lambda _: None)
    others = [name for name in DEVICES if name != DEADLY]
    assert booted == [DEVICES, [*others, *others, DEADLY]]
    for number in (1, 2):
        together = _facts(tmp_path, "together", number)
        assert [each["device"] for each in together["nics"]] == others
        assert {each["taken"] for each in together["nics"]} == {100}
        assert "died" not in together and together["log"] == []
        assert _facts(tmp_path, DEADLY, number) == {
            "kernel": "6.1.0-56-amd64",
            "nics": [{"device": DEADLY, "driver": "driver8", "module": "module8"}],
            "died": PANIC,
        }


def test_runs_that_are_there_are_not_repeated(booted: list[list[str]], tmp_path: Path) -> None:
    runs.run(["nics"], 1, tmp_path, lambda _: None)
    before = len(booted)
    runs.run(["nics"], 1, tmp_path, lambda _: None)
    assert len(booted) == before
    runs.run(["nics"], 2, tmp_path, lambda _: None)
    assert len(booted) > before
    assert {path.name for path in (tmp_path / "nics/together").iterdir()} == {"001", "002"}


def test_runs_that_fail_on_a_machine_that_lives_are_tried_again_and_named(
    booted: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: Any, **_more: Any) -> None:
        raise UserError("the disk is full")

    monkeypatch.setattr(trial, "run", run)
    said: list[str] = []
    with pytest.raises(UserError, match=r"runs on nics failed 3 times"):
        runs.run(["nics"], 1, tmp_path, said.append)
    assert len(booted) == runs.ATTEMPTS
    assert all("the disk is full" in line for line in said)


@pytest.mark.usefixtures("booted")
def test_shortage_that_did_not_come_about_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, missed = trial.run, [True]

    def first_missed(*words: Any, **options: Any) -> None:
        if missed:
            missed.pop()
            raise trial.NoShortageError("memory was not short")
        run(*words, **options)

    monkeypatch.setattr(trial, "run", first_missed)
    runs.run(["nics"], 1, tmp_path, lambda _: None)
    assert not missed and _facts(tmp_path, "together", 1)


def test_a_survey_is_of_each_promised_kernel_once() -> None:
    of = [(machine.release, machine.kernel) for machine in map(machines.find, runs.kinds())]
    assert of == [(kernel.release, kernel.kernel) for kernel in machines.kernels()]
