# SPDX-License-Identifier: GPL-2.0-only
"""Variants of a driver under one scenario, run after run, and what comes of comparing them.

An experiment is a directory: manifest.json says what was asked for, runs/VARIANT/NUMBER holds a trial each,
set-aside those that no verdict may rest on, verdict.json the comparison of every pair of variants. A run that
is there is not repeated: the same command goes on where it was interrupted, and a larger number adds runs.
"""

import json
import random
import shutil
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

import toolkit
from toolkit import report
from toolkit.compare import comparison
from toolkit.english import count
from toolkit.errors import UserError
from toolkit.runs import read_runs
from vm import drivers, guest, machines, outcomes, trial, variants
from vm.cmd import cmd
from vm.image import image
from vm.qemu import emulator

#: How often a run that cannot be used is repeated.
REPEATS = 2
SCENARIOS = Path(__file__).parent / "inside/scenarios"


@dataclass(frozen=True)
class Plan:
    """What an experiment is to do.

    :param driver: one with variants.
    :param machine: its entry in ``machines.yaml``.
    :param variants: builds of the driver, each compared with every one before it.
    :param scenario: a module under vm.inside.scenarios, and its options.
    :param seed: of the order of the runs.
    """

    driver: str
    machine: str
    variants: tuple[str, ...]
    scenario: tuple[str, ...]
    seed: int


def plan(
    driver: str,
    *,
    machine: str | None = None,
    builds: Sequence[str] = (),
    scenario: Sequence[str] = (),
    seed: int | None = None,
) -> Plan:
    """An experiment, with the driver's own choice (experiment.toml) for what is not given.

    :raises UserError: if there is no such driver, machine or variant.
    """
    drivers.variants(driver)  # or there is no such driver
    usual = tomllib.loads((drivers.HERE / driver / "experiment.toml").read_text())
    chosen = tuple(builds or usual["variants"])
    for each in chosen:
        drivers.check(driver, each)
    if len(set(chosen)) != len(chosen):
        raise UserError("name each variant once.")
    kind = machines.find(machine or usual["machine"])
    if kind.driver != driver:
        raise UserError(f"{kind.name} is a machine of {kind.driver}, not of {driver}.")
    words = tuple(scenario or usual["scenario"].split())
    if not (SCENARIOS / f"{words[0]}.py").exists():
        raise UserError(f"there is no scenario {words[0]}.")
    chance = random.SystemRandom().getrandbits(32) if seed is None else seed
    return Plan(driver, kind.name, chosen, words, chance)


def seed_of(out: Path) -> int | None:
    """Return the seed of the experiment that is in a directory; None if there is none."""
    try:
        return int(json.loads((out / "manifest.json").read_text())["plan"]["seed"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def order(plan: Plan, runs: int) -> list[tuple[str, int]]:
    """The runs in their order: in blocks of one run of each variant, each block shuffled.

    A slow change of the host then falls on all variants alike, and more runs of the same seed only append.

    :return: variant and number of each, numbers from 1.
    """
    found = []
    for number in range(1, runs + 1):
        block = list(plan.variants)
        random.Random(f"{plan.seed} {number}").shuffle(block)
        found += [(variant, number) for variant in block]
    return found


def run(
    plan: Plan,
    runs: int,
    out: Path,
    *,
    accel: str | None = None,
    say: Callable[[str], object] = lambda line: print(line, file=sys.stderr, flush=True),
) -> dict[str, Any]:
    """Do the runs that an experiment still lacks, and compare its sets.

    :param runs: of each variant.
    :param out: the experiment's directory.
    :param say: is told of progress.
    :return: the JSON object of verdict.json.
    :raises UserError: if the directory is of another experiment, or a run fails again and again.
    """
    _open(plan, out, say)
    missing = [each for each in order(plan, runs) if not _place(out, *each).exists()]
    began, asked = time.monotonic(), runs * len(plan.variants)
    for done, (variant, number) in enumerate(missing):
        left = f", {_left(began, done, len(missing))} left" if done else ""
        say(f"[{asked - len(missing) + done + 1}/{asked}] {variant} {number}{left}")
        _until_usable(plan, variant, number, out, accel, say)
    return judge(plan, out, say)


def judge(plan: Plan, out: Path, say: Callable[[str], object]) -> dict[str, Any]:
    """Compare every pair of variants of an experiment.

    Writes verdict.json, and a directory with tables, plots and a page for each pair.

    :return: {driver, scenario, seed, repeated: runs that could not be used, by variant, outcomes: what
        happened in a run or did not (vm/outcomes.py), comparisons: [{base, candidate, verdict, metrics,
        ...}]}. A panic leaves no trace: pairs in which a run ended in one have outcomes only.
    """
    happened = {each: outcomes.read(out / "runs" / each) for each in plan.variants}
    # One build with two values of a parameter is two variants here, of one name in the traces.
    sets = {
        each: read_runs(out / "runs" / each).assign(variant=each)
        for each in plan.variants
        if not any("panic" in run for run in happened[each])
    }
    found, decided = [], []
    for base, candidate in combinations(plan.variants, 2):
        for outcome in outcomes.compare(base, happened[base], candidate, happened[candidate]):
            decided.append(outcome)
            say(f"{base} -> {candidate}: {outcome['sentence']}")
        if not {base, candidate} <= set(sets):
            continue
        compared = comparison.compare(sets[base], sets[candidate])
        folder = out / f"{base}-{candidate}"
        folder.mkdir(exist_ok=True)
        report.save("compare", compared, folder)
        found.append(comparison.summary(compared))
        say(f"{base} -> {candidate}: {compared.sentence}")
    verdict = {
        "driver": plan.driver,
        "scenario": " ".join(plan.scenario),
        "seed": plan.seed,
        "repeated": {each: len(list((out / "set-aside").glob(f"{each}-*"))) for each in plan.variants},
        "outcomes": decided,
        "comparisons": found,
    }
    _write(out / "verdict.json", verdict)
    return verdict


def _open(plan: Plan, out: Path, say: Callable[[str], object]) -> None:
    """Begin an experiment, or make sure that the directory holds this one."""
    manifest = out / "manifest.json"
    if manifest.exists():
        asked, old = json.loads(json.dumps(asdict(plan))), json.loads(manifest.read_text())["plan"]
        if wrong := [name for name in asked if asked[name] != old[name]]:
            raise UserError(
                f"{out} holds another experiment: its {wrong[0]} is {old[wrong[0]]}, not {asked[wrong[0]]}."
            )
        return
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty and holds no experiment; give another directory.")
    machine = machines.find(plan.machine)
    built = image.ensure(machine)
    out.mkdir(parents=True, exist_ok=True)
    made_of = {
        "plan": asdict(plan),
        "toolkit": toolkit.__version__,
        "image": built.key,
        "machine": asdict(machine),
        "modules": {
            each: drivers.file_name(plan.driver, each)
            for each in plan.variants
            if drivers.split(each)[0] != "stock"
        },
        "qemu": cmd([*emulator.ensure(machine.architecture), "--version"]).stdout.splitlines()[0],
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    _write(manifest, made_of)
    say(f"experiment in {out}, seed {plan.seed}")


def _until_usable(
    plan: Plan, variant: str, number: int, out: Path, accel: str | None, say: Callable[[str], object]
) -> None:
    """Do one run, and again if its machine died or no verdict may rest on it; keep the last one."""
    for attempt in range(1, REPEATS + 2):
        work = out / f".{variant}-{number}"
        shutil.rmtree(work, ignore_errors=True)
        last = attempt > REPEATS
        try:
            _once(plan, variant, work, accel, say)
            runs = read_runs(work)
            if (seen := runs["variant"].iloc[0]) != drivers.split(variant)[0]:
                raise UserError(f"the trace is of {plan.driver} {seen}, not {variant}.")
        except outcomes.PanicError as panic:
            # That is what the run was to show, or not to show: it is not repeated.
            say(f"  {panic}")
            work.mkdir(exist_ok=True)
            (work / outcomes.PANIC).write_text(panic.console)
            _keep(work, _place(out, variant, number))
            return
        except UserError as error:
            if last:
                raise
            say(f"  failed, once more: {error}")
            continue
        why = comparison.set_aside(runs).iloc[0]
        say(f"  {_in_words(runs.iloc[0])}" + ("" if pd.isna(why) else f"; not usable: {why}"))
        place = _place(out, variant, number)
        if pd.notna(why) and not last:
            place = out / "set-aside" / f"{variant}-{number}-{attempt}"
        _keep(work, place)
        if pd.isna(why) or last:
            return


def _once(plan: Plan, variant: str, work: Path, accel: str | None, say: Callable[[str], object]) -> None:
    """One trial in a machine of its own."""
    with guest.machine(plan.machine, accel=accel) as machine:
        _note(work.parent / "manifest.json", accel=machine.accel)
        variants.load(machine, variant, say=say)
        needs = drivers.needs(plan.driver)
        traced, *options = needs.trace or (plan.driver,)
        try:
            files = trial.run(
                machine,
                traced,
                work,
                scenario=plan.scenario,
                traffic=trial.Traffic(),
                options=options,
                say=lambda _: None,
            )
        except UserError:
            outcomes.raise_panic(machine, plan.driver)
            raise
        if not needs.refuses:
            files.witness.rename(work / "wire.json")


def _note(manifest: Path, **facts: str) -> None:
    """Add facts that are only known once a machine runs."""
    found = json.loads(manifest.read_text())
    if not facts.items() <= found.items():
        _write(manifest, found | facts)


def _in_words(run: pd.Series) -> str:
    """Return what a run was like."""
    refused = "" if pd.isna(run["refused"]) else f", refused: {run['refused']:.1%}"
    return (
        f"{count(run['stalls'], 'stall')}, {run['stalled_ns'] / 1e9:.3f} s in sum, "
        f"the longest {run['longest_ns'] / 1e9:.3f} s{refused}"
    )


def _keep(work: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    work.rename(place)


def _place(out: Path, variant: str, number: int) -> Path:
    return out / "runs" / variant / f"{number:03}"


def _left(began: float, done: int, runs: int) -> str:
    """Return how long the rest will take."""
    seconds = (time.monotonic() - began) / done * (runs - done)
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _write(path: Path, found: dict[str, Any]) -> None:
    path.write_text(json.dumps(found, indent=1) + "\n")
