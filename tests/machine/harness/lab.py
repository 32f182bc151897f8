# SPDX-License-Identifier: GPL-2.0-only
"""Machines for the tests, and a tracer in each that stays attached from one test to the next."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.errors import UserError
from toolkit.stalls.accounts import read_witness
from toolkit.stalls.analysis import Analysis, analyze, summary
from toolkit.stalls.witness import compare
from vm import guest, trial, variants
from vm.inside import testbed

#: How often a scenario is run whose shortage does not reach the ring.
SCENARIO_RUNS = 4


@dataclass
class _Running:
    """One machine: the build of its driver that is loaded, and what is traced."""

    guest: guest.Guest
    stop: ExitStack
    build: tuple[str, ...] = ("stock",)
    traced: tuple[str, ...] = ()
    tracing: trial.Tracing | None = None
    end: ExitStack = field(default_factory=ExitStack)


class Lab:
    """The machines that run.

    :param repeats: is given a line for each scenario that was run again.
    """

    def __init__(self, repeats: list[str]) -> None:
        self._repeats = repeats
        self._running: dict[str, _Running] = {}

    def boot(self, kind: str) -> guest.Guest:
        """Start a kind of machine, or return the one that runs already."""
        there = self._running.get(kind)
        if there is None or not there.guest.alive():
            if there:
                self.stop(kind)
            stop = ExitStack()
            self._running[kind] = _Running(stop.enter_context(guest.machine(kind)), stop)
        return self._running[kind].guest

    def keep(self, kinds: Sequence[str]) -> None:
        """Stop all machines but those of some kinds."""
        for kind in set(self._running) - set(kinds):
            self.stop(kind)

    def stop(self, kind: str) -> None:
        """Stop a machine, if it runs; its tracer goes with it."""
        if there := self._running.pop(kind, None):
            if there.guest.alive():
                there.end.close()
            there.stop.close()

    def load(self, machine: guest.Guest, variant: str) -> None:
        """Load a build of the machine's driver, unless it is loaded."""
        there = self._running[machine.kind]
        if there.build != (variant,):
            self.end_trace(machine)
            there.build = ()
            variants.load(machine, variant, say=print)
            there.build = (variant,)

    def reload(self, machine: guest.Guest, variant: str) -> None:
        """Load a build of the machine's driver, also if it is loaded."""
        self.end_trace(machine)
        self._running[machine.kind].build = ()
        self.load(machine, variant)

    def end_trace(self, machine: guest.Guest) -> None:
        """End the tracer that stays attached in a machine, if there is one."""
        there = self._running[machine.kind]
        there.traced, there.tracing = (), None
        there.end.close()

    def tracing(self, machine: guest.Guest, *options: str) -> trial.Tracing:
        """Return the tracer of a machine; it is started anew if it had other options.

        :param options: of `toolkit trace`.
        """
        there = self._running[machine.kind]
        if there.tracing is None or there.traced != options:
            self.end_trace(machine)
            own = trial.tracing(
                machine, machine.machine.driver, "/var/tmp/lab.rxt", options=["--force", *options]
            )
            there.tracing, there.traced = there.end.enter_context(own), options
        return there.tracing

    def trial(
        self,
        machine: guest.Guest,
        out: Path,
        *scenario: str,
        seconds: float = 0.0,
        traffic: trial.Traffic | None = None,
        options: Sequence[str] = (),
        driver: str | None = None,
        alone: bool = False,
        reached: Callable[[Analysis], bool] = lambda _: True,
        then: Callable[[], None] = lambda: None,
    ) -> trial.Files:
        """Run one trial in a machine, with the tracer that is attached there.

        A scenario whose shortage does not reach the ring is run again: by its own word, or by the trace's.

        :param out: a directory for what the trial leaves.
        :param scenario: module under vm.inside.scenarios and its options; none: just wait for `seconds`.
        :param options: of `toolkit trace`.
        :param driver: to trace, if not the machine's own, by a tracer that is `alone`; "": the devices'.
        :param alone: with a tracer of its own. A file that is cut from a trace lacks the last 10 ms of what
            is only counted, since nothing has sent that window yet; a trace that ends has it.
        :param reached: whether a trace shows that the shortage reached the ring.
        :param then: is called when the scenario is over and no frames are sent, while the trace goes on.
        """
        if alone:
            self.end_trace(machine)
        for run in range(1, SCENARIO_RUNS + 1):
            directory = out / f"run{run}"
            try:
                files = trial.run(
                    machine,
                    machine.machine.driver if driver is None else driver,
                    directory,
                    scenario=scenario,
                    seconds=seconds,
                    traffic=traffic,
                    options=options,
                    running=None if alone else self.tracing(machine, *options),
                    then=then,
                )
            except trial.NoShortageError as missed:
                why = str(missed)
            else:
                if not scenario or reached(analyze(files.trace)):
                    return files
                why = "the shortage did not reach the ring"
            self._repeats.append(f"{machine.kind} {' '.join(scenario)} run {run}: {why}")
        raise UserError(
            f"{machine.kind}: in {SCENARIO_RUNS} runs of {scenario[0]} its shortage reached no ring."
        )

    def scenario(
        self,
        machine: guest.Guest,
        *words: str,
        meanwhile: Callable[[], object] = lambda: time.sleep(0.2),
        reached: Callable[[], bool] = lambda: True,
    ) -> None:
        """Run a scenario beside whatever goes on in a machine, again where its shortage did not come about.

        :param words: module under vm.inside.scenarios and its options.
        :param meanwhile: is called again and again while it runs.
        :param reached: whether the shortage is seen to have reached the ring.
        """
        command = f"{guest.PYTHON} -m vm.scenarios.{' '.join(words)} -o /dev/null"
        for run in range(1, SCENARIO_RUNS + 1):
            with machine.popen(command) as running:
                while running.poll() is None:
                    meanwhile()
                said = running.communicate()[1].strip()
            if running.returncode not in (0, testbed.MISSED):
                raise UserError(f"{machine.kind}: {command} failed: {said}")
            if running.returncode == 0 and reached():
                return
            self._repeats.append(f"{machine.kind} {' '.join(words)} run {run}: {said}")
        raise UserError(
            f"{machine.kind}: in {SCENARIO_RUNS} runs of {words[0]} its shortage reached no ring."
        )


def failed(analysis: Analysis) -> bool:
    """Whether a refill failed in a trace."""
    return bool(analysis.queues["failed"].sum())


def recovered(analysis: Analysis) -> bool:
    """Whether a refill failed in a trace, and no stall went on to its end, as in reclaim it may."""
    return failed(analysis) and not analysis.stalls["open"].any()


def emptied(name: str) -> Callable[[Analysis], bool]:
    """Return a test of whether the queue of that name had nothing posted in a trace."""
    return lambda analysis: bool(
        (analysis.queues.loc[analysis.queues["name"] == name, "posted_min"] == 0).any()
    )


def result(files: trial.Files) -> tuple[Analysis, dict[str, Any]]:
    """Return the analysis of a trial with its witness, and its summary; it is whole, and lost no event."""
    analysis, witness = compare(analyze(files.trace), read_witness(files.witness))
    found = summary(analysis)
    found["witness"] = witness
    assert found["complete"], found["damage"]
    assert found["ledger"]["attempted"] == found["ledger"]["delivered"], found["ledger"]
    return analysis, found


def counters_of_recorder(machine: guest.Guest, port: int) -> str:
    """Return what a recorder in a machine answers on a port of its loopback; nothing, if it does not."""
    ask = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:{port}/metrics').read().decode())"
    return machine.ssh(f'python3 -c "{ask}"').stdout


def fetch(machine: guest.Guest, path: str, target: Path) -> Path:
    """Copy a file that root made out of a machine."""
    machine.ssh(f"sudo chown $(id -u) {path}", check=True)
    machine.copy_from(path, target)
    return target


def assert_log_is_clean(machine: guest.Guest) -> None:
    """The kernel of a machine has found nothing wrong with itself."""
    log = machine.ssh("sudo dmesg", check=True).stdout
    assert not re.search(r"BUG:|WARNING:|general protection|unable to handle|corruption", log), log[-4000:]
