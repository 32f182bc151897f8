# SPDX-License-Identifier: GPL-2.0-only
"""``python -m vm``: build, start, enter and stop the testbed's machines."""

import json
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from toolkit.errors import UserError, one_sentence
from vm import experiment as experiments
from vm import guest as guests
from vm import machines, results, variants
from vm import matrix as matrices
from vm import upstream as findings
from vm.image import debian, image
from vm.survey import outcome
from vm.survey import page as survey_page
from vm.survey import runs as surveys
from vm.vagrant import box as boxes

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)

Name = Annotated[str, typer.Argument(help="What the machine runs under.")]
Kind = Annotated[
    str | None,
    typer.Option("--machine", metavar="KIND", help="Its entry in machines.yaml; the name by default."),
]
Accel = Annotated[
    str | None, typer.Option(metavar="tcg|kvm|icount", help="Chosen by a trial boot by default.")
]
FIRST = "The first of machines.yaml by default."
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
# What follows the name belongs to the machine's shell, options included.
PASS_ON = {"allow_interspersed_args": False, "ignore_unknown_options": True}


@app.command()
def build(
    name: Annotated[str | None, typer.Argument(metavar="[MACHINE]", help=FIRST)] = None,
    force: Annotated[bool, typer.Option("--force", help="Build anew, for newer packages.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Delete images that no machine uses now.")] = False,
) -> None:
    """Build a machine's disk image, or find it in the cache."""
    built = image.ensure(machines.find(name or machines.first()), force=force)
    if prune:
        for key in image.prune({image.key(machine) for machine in machines.load().values()}):
            print(f"deleted {key}", file=sys.stderr)
    print(built.disk)


@app.command()
def box(name: Annotated[str | None, typer.Argument(metavar="[MACHINE]", help=FIRST)] = None) -> None:
    """Make a Vagrant box of a machine's image and add it, for `vagrant up`."""
    print(
        boxes.add(
            machines.find(name or machines.first()), lambda line: print(line, file=sys.stderr, flush=True)
        )
    )


@app.command()
def up(
    name: Name,
    kind: Kind = None,
    accel: Accel = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the QEMU command instead of running it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start a machine and wait until it answers."""
    if dry_run:
        print(shlex.join(guests.command_line(name, kind or name, accel)))
        return
    guest = guests.up(name, kind, accel=accel)
    if as_json:
        print(json.dumps(_facts(guest)))


@app.command(context_settings=PASS_ON)
def ssh(name: Name, command: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    """Enter a machine, or run a command in it and pass on its exit status."""
    guest = guests.find(name)
    options = ["-t"] if command is None and sys.stdin.isatty() else []
    words = guest.ssh_argv(*options, alone=True)
    if command:
        words += ["--", *command]
    raise typer.Exit(subprocess.run(words).returncode)


@app.command()
def cp(
    source: Annotated[str, typer.Argument(help="A path, or NAME:path in a machine.")],
    target: Annotated[str, typer.Argument(help="A path, or NAME:path in a machine.")],
) -> None:
    """Copy a file or directory into or out of a machine."""
    inside = [":" in source.partition("/")[0], ":" in target.partition("/")[0]]
    if inside[0] == inside[1]:
        raise UserError("Exactly one of the two is NAME:path.")
    name, _, path = (source if inside[0] else target).partition(":")
    guest = guests.find(name)
    if inside[0]:
        guest.copy_from(path, target)
    else:
        guest.copy_to(source, path)


@app.command(context_settings=PASS_ON)
def run(name: Name, command: list[str], kind: Kind = None, accel: Accel = None) -> None:
    """Run a command in a machine; one that was not running is started first and stopped after."""
    own = name not in {guest.name for guest in guests.running()}
    guest = guests.up(name, kind, accel=accel) if own else guests.find(name)
    try:
        if not own:
            guest.sync()
        status = subprocess.run([*guest.ssh_argv(alone=True), "--", *command]).returncode
    finally:
        if own:
            guests.down(guest)
    raise typer.Exit(status)


@app.command()
def sync(name: Name) -> None:
    """Bring this checkout's code into a running machine."""
    guests.find(name).sync()


@app.command()
def variant(
    name: Name,
    which: Annotated[str, typer.Argument(metavar="VARIANT", help="NAME, or NAME:PARAMETER=VALUE.")],
) -> None:
    """Put another build of its driver into a running machine (vm/drivers)."""
    variants.load(guests.find(name), which, say=lambda line: print(line, file=sys.stderr, flush=True))


@app.command()
def experiment(
    driver: Annotated[str, typer.Argument(help="A driver with variants (vm/drivers).")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The experiment; one that is there goes on.")],
    runs: Annotated[int, typer.Option(min=1, help="Of each variant.")] = 5,
    builds: Annotated[
        str, typer.Option("--variants", metavar="NAMES", help="NAME or NAME:PARAMETER=VALUE, base first.")
    ] = "",
    scenario: Annotated[
        str,
        typer.Option(metavar="WORDS", help='And its options: "knob --times 3". The driver\'s by default.'),
    ] = "",
    kind: Kind = None,
    seed: Annotated[int | None, typer.Option(help="Of the order of the runs; by chance by default.")] = None,
    accel: Accel = None,
    as_json: Json = False,
) -> None:
    """Run variants of a driver under a scenario, each time in a fresh machine, and compare them.

    Example: python -m vm experiment virtio_net --runs 5 --out out/pressure
    """
    seed = experiments.seed_of(out) if seed is None else seed
    names = [name for name in builds.split(",") if name]
    plan = experiments.plan(driver, machine=kind, builds=names, scenario=shlex.split(scenario), seed=seed)
    verdict = experiments.run(plan, runs, out, accel=accel)
    if as_json:
        print(json.dumps(verdict))


@app.command("results")
def results_(
    driver: Annotated[str, typer.Argument(help="A driver with variants (vm/drivers).")],
    experiments_: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Finished experiments.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where the page goes.")],
) -> None:
    """Write a driver's page of results: the claim of its patch, and what experiments found."""
    print(results.write(driver, experiments_, output))


@app.command()
def survey(
    kinds: Annotated[
        list[str] | None, typer.Argument(metavar="[MACHINE]...", help="By default one for each kernel.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The runs; those that are there stay. Cached by default."),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Of each NIC on each machine.")] = 5,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Also write the page, there.")
    ] = None,
) -> None:
    """Keep memory short while each NIC that QEMU has receives, on each kernel that is promised.

    Example: python -m vm survey -o docs/results
    """
    kinds, out = kinds or surveys.kinds(), out or surveys.directory()
    surveys.run(kinds, runs, out, lambda line: print(line, file=sys.stderr, flush=True))
    if output:
        print(survey_page.write(output, outcome.read(out, kinds)))


@app.command()
def upstream(
    name: Annotated[str, typer.Argument(help="A finding (docs/upstream).")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also repeat its experiment, in this directory.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Of each variant, with --out.")] = 3,
    seed: Annotated[int | None, typer.Option(help="Of the order of the runs, with --out.")] = None,
) -> None:
    """Check the patches of a finding against the newest kernel source, as a maintainer would.

    Example: python -m vm upstream aoe
    """
    finding = findings.load(name)
    findings.check(finding, lambda line: print(line, flush=True), debian.stderr)
    if out:
        seed = experiments.seed_of(out) if seed is None else seed
        experiments.run(findings.plan(finding, seed), runs, out)


@app.command()
def matrix(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The page to write.")],
) -> None:
    """Write the page of kernels: each driver against the packages of each kernel that is promised."""
    matrices.write(output, lambda line: print(line, file=sys.stderr, flush=True))
    print(output)


@app.command()
def down(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every machine of this checkout.")] = False,
) -> None:
    """Stop machines."""
    if bool(names) == everything:
        raise UserError("Name the machines to stop, or say --all.")
    known = {guest.name: guest for guest in guests.known()}
    for name in names or known:
        guests.down(known.get(name) or guests.find(name))


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Show what runs, and what could."""
    known = guests.known()
    if as_json:
        print(json.dumps([_facts(guest) for guest in known]))
        return
    for guest in known:
        state = f"pid {guest.pid}, port {guest.port}" if guest.alive() else f"died, see {guest.files.console}"
        print(f"{guest.name}  machine {guest.kind}, {guest.accel}, {state}")
    if not known:
        print(f"Nothing runs. Machines: {', '.join(machines.load())}")


def _facts(guest: guests.Guest) -> dict[str, object]:
    directory = guest.files.directory
    wires = [str(guest.wire(number)) for number, nic in enumerate(guest.machine.nics) if not nic.hub]
    age = round(time.time() - guest.started)
    return {
        **asdict(guest),
        "alive": guest.alive(),
        "age_s": age,
        "directory": str(directory),
        "wires": wires,
    }


@one_sentence("vm")
def main() -> int:
    """Run the command line; a machine of the command's own is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    app(prog_name="python -m vm")
    return 0


if __name__ == "__main__":
    sys.exit(main())
