# SPDX-License-Identifier: GPL-2.0-only
"""The runs of a survey: all NICs of a machine receive while memory is short, and one trace is of all of them.

A survey is a directory, MACHINE/NICS/RUN in it, with what a run leaves and facts.json. A run that is there
is not repeated, so the same command goes on where it was interrupted. A machine that dies has ended a run,
not the survey: the NIC whose driver the kernel died in is run alone from then on, and the others without it.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from toolkit.errors import UserError
from vm import guest, machines, trial
from vm.paths import cache
from vm.qemu.command import mac

#: Its hold is long against the timers of drivers, which are of 2 s, and so is the time after it. What arrives
#: stays in sockets, as a driver with a page pool needs it to stall.
SCENARIO = ("knob", "--hold", "5", "--after", "4", "--buffer", "64")
#: Frames a second for each NIC: all of them are a load that the emulated machine can bear.
RATE = 150
#: A machine that has all NICs, and the directory of the runs in which all receive.
FIRST, TOGETHER = "nics", "together"
#: How often a machine is tried whose runs fail; and a shortage is made again that did not come about.
ATTEMPTS = 3

_LOG = r"BUG:|WARNING:|Oops|general protection|NETDEV WATCHDOG"
_DEATH = re.compile(r"\] ((?:BUG: |kernel BUG |list_\w+ corruption|RIP: 0010:|Kernel panic).*)")
#: A function of a module in a call trace; one that the kernel is not sure of has a question mark.
_CALLED = re.compile(r"\]  ([\w.]+\+\S+ \[\w+\])")
_THERE = "/var/tmp/survey.rxt"
#: A NIC may be deaf for good since the last run: each begins with a new ring, and with a link.
_RENEW = (
    "sudo ip link set {0} down && sudo rx-stall-nic {0} && "
    "timeout 60 sh -c 'until grep -q 1 /sys/class/net/{0}/carrier; do sleep 0.2; done'"
)

Say = Callable[[str], object]


def kinds() -> list[str]:
    """Return the machines of a survey: those with the NICs of the first, each on its own kernel."""
    known = machines.load()
    return [name for name, machine in known.items() if machine.nics == known[FIRST].nics]


def directory() -> Path:
    """Return where a survey is kept by default."""
    return cache() / "survey"


def run(kinds: Sequence[str], runs: int, out: Path, say: Say) -> None:
    """Do the runs that a survey lacks.

    :param kinds: machines, of which each has the NICs on another kernel.
    :param runs: on each of them.
    :param out: the survey's directory.
    :param say: is told of progress.
    :raises UserError: if runs on a machine failed each time that they were tried.
    """
    for kind in kinds:
        failures = 0
        while lacking := _lacking(out / kind, runs):
            if failures == ATTEMPTS:
                raise UserError(f"runs on {kind} failed {ATTEMPTS} times.")
            with guest.machine(kind) as machine:
                for name, numbers in lacking.items():
                    failures += not _runs(machine, out / kind / name, numbers, say)
                    if not machine.alive():
                        break


def _lacking(folder: Path, runs: int) -> dict[str, list[int]]:
    """Return the numbers of the runs that are lacking, by the directory of the NICs that they are of."""
    found = {}
    for name in sorted({TOGETHER, *(path.name for path in folder.glob("eth*"))}, reverse=True):
        if numbers := [
            number for number in range(1, runs + 1) if not (folder / name / f"{number:03}").exists()
        ]:
            found[name] = numbers
    return found


def _runs(machine: guest.Guest, folder: Path, numbers: Sequence[int], say: Say) -> bool:
    """Do the runs of some NICs, which one tracer traces.

    :param folder: for the runs; its name says of which NICs they are.
    :return: whether all went well. A death ends a run well.
    """
    folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {}
    number = 0
    try:
        facts = _facts(machine, folder)
        options = [word for each in facts["nics"] for word in ("-d", each["device"])]
        with trial.tracing(machine, "", _THERE, options=["--force", *options], log=lambda _: None) as tracing:
            for number in numbers:
                _keep(folder / f"{number:03}", _once(machine, facts, tracing, _work(folder, number)))
                say(f"{machine.kind} {folder.name} {number}")
    except (UserError, OSError, subprocess.TimeoutExpired) as error:
        words = _death(machine)
        nics = facts.get("nics", [])
        guilty = [each for each in nics if words and (len(nics) == 1 or f"[{each['module']}]" in words)]
        if not number or (folder / f"{number:03}").exists() or len(guilty) != 1:
            say(f"{machine.kind} {folder.name} {number} failed: {error}; {words}")
            return False
        shutil.rmtree(_work(folder, number), ignore_errors=True)
        alone = folder.parent / guilty[0]["device"]
        place = alone / f"{len(list(alone.glob('[0-9]*'))) + 1:03}"
        work = _work(alone, int(place.name))
        work.mkdir(parents=True)
        shutil.copy(machine.files.console, work / "console.log")
        _keep(place, {**facts, "nics": guilty, "died": words})
        say(f"{machine.kind} {alone.name} {place.name}: {words}")
    return True


def _facts(machine: guest.Guest, folder: Path) -> dict[str, Any]:
    """Return the kernel, and the NICs that receive: interface, driver and module of each.

    :raises UserError: if a NIC has no driver, or that of another one took its name.
    """
    alone = {path.name for path in folder.parent.glob("eth*")}
    found = []
    for number, nic in enumerate(machine.machine.nics):
        name = f"eth{number + 1}"
        if (folder.name == TOGETHER and name in alone) or folder.name not in (TOGETHER, name):
            continue
        link = f"/sys/class/net/{name}"
        names = f"basename $(readlink {link}/device/driver); basename $(readlink {link}/device/driver/module)"
        address, driver, module = [*machine.ssh(f"cat {link}/address; {names}").stdout.split(), "", "", ""][
            :3
        ]
        if address != mac(number):
            raise UserError(f"{name} of {machine.kind} is not the NIC {nic.model}.")
        found.append({"device": name, "driver": driver, "module": module})
    return {"kernel": machine.ssh("uname -r", check=True).stdout.strip(), "nics": found}


def _once(machine: guest.Guest, facts: dict[str, Any], tracing: trial.Tracing, work: Path) -> dict[str, Any]:
    """One run: a file of the running trace, the senders' accounts, and what the kernel says besides.

    :return: the facts, with how many frames each interface took (`taken`), and what the log complains of.
    """
    names = [each["device"] for each in facts["nics"]]
    traffic = {
        work / f"{name}.json": trial.Traffic(nic=int(name.removeprefix("eth")) - 1, rate=RATE)
        for name in names
    }
    for attempt in range(1, ATTEMPTS + 1):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        for name in names:
            machine.ssh(_RENEW.format(name), check=True, timeout=120)
        machine.ssh("sudo dmesg --clear", check=True, timeout=60)
        before = _taken(machine, names)
        try:
            trial.run(
                machine,
                "",
                work,
                scenario=[*SCENARIO, "--device", names[0]],
                traffic=traffic,
                running=tracing,
                say=lambda _: None,
            )
            break
        except trial.NoShortageError:
            if attempt == ATTEMPTS:
                raise
    log = machine.ssh(f"sudo dmesg | grep -E '{_LOG}'", timeout=60).stdout.splitlines()
    taken = [after - first for first, after in zip(before, _taken(machine, names), strict=True)]
    nics = [{**each, "taken": number} for each, number in zip(facts["nics"], taken, strict=True)]
    return {**facts, "nics": nics, "log": log}


def _taken(machine: guest.Guest, names: Sequence[str]) -> list[int]:
    """Return the frames that each interface has taken since it is there."""
    files = " ".join(f"/sys/class/net/{name}/statistics/rx_packets" for name in names)
    return [int(word) for word in machine.ssh(f"cat {files}", check=True, timeout=120).stdout.split()]


def _work(folder: Path, number: int) -> Path:
    """Return where a run is while it lasts."""
    return folder / f".{number:03}"


def _keep(place: Path, facts: dict[str, Any]) -> None:
    """Put a run that has ended in its place."""
    work = _work(place.parent, int(place.name))
    (work / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")
    work.rename(place)


def _death(machine: guest.Guest) -> str:
    """Return what the kernel of a machine that has died said last; nothing if it lives."""
    if machine.alive():
        return ""
    with suppress(OSError):
        console = machine.files.console.read_text(errors="replace")
        said = _DEATH.findall(console)
        called = _CALLED.findall(console.partition(said[0])[2])[:1] if said else []
        return "; ".join(dict.fromkeys(line.strip() for line in [*said, *called]))
    return ""
