# SPDX-License-Identifier: GPL-2.0-only
"""`toolkit doctor`: what this machine lets the toolkit see."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit import completion
from toolkit.printable import wrapped

if TYPE_CHECKING:
    from toolkit.capture.checkup import Finding
    from toolkit.driver import Driver


def doctor(
    driver: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DRIVER",
            help="Only these drivers [default: all; without --packages, of drivers that are only declared "
            "those that are loaded]",
            autocompletion=completion.drivers,
        ),
    ] = None,
    packages: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR|FILE.deb...",
            help="Check kernels in Debian packages, of any architecture, instead of the one that runs. "
            "Needs no root.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say per driver what this kernel can show.

    And how to get what is missing. What is the same for all drivers is said once. Nothing is left attached.

    With --packages, doctor looks for functions and members in modules and kernel images, and unpacks none of
    them on a disk. Give all packages of a kernel. The table says full, partly, no (the driver cannot be
    traced) or - (the kernel has no such driver). Whether the probes compile, and whether a function takes a
    probe, only a kernel that runs can tell.

    Exits with 1 if a driver that was named cannot be traced, or none of those that are there can.

    Example: sudo toolkit doctor virtio_net

    Example: toolkit doctor --packages linux-image-*.deb
    """
    from toolkit.capture.checkup import check, verdict
    from toolkit.capture.kernel import module_identity
    from toolkit.drivers import load, names

    words = driver or []
    if packages:
        # A pattern of the shell becomes several words, of which the option takes the first.
        packages += [Path(word) for word in words if _is_package(word)]
        words = [word for word in words if not _is_package(word)]
    chosen = [load(name) for name in words or names()]
    if packages:
        _packed(chosen, packages, named=bool(words), as_json=as_json)
        return
    if not words:
        chosen = [item for item in chosen if not item.ring or module_identity(item.module) is not None]
    results = {item.name: check(item) for item in chosen}
    if as_json:
        print(json.dumps({name: _plain(findings) for name, findings in results.items()}, indent=1))
    else:
        first, *others = results.values()
        common = [finding for finding in first if others and all(finding in other for other in others)]
        if common:
            _show("all drivers", common)
        for name, findings in results.items():
            own = [finding for finding in findings if finding not in common]
            _show(f"{name}: {verdict(findings)}", own)
    usable = [
        name for name, findings in results.items() if not any(finding.level == "fail" for finding in findings)
    ]
    if not usable or (words and len(usable) < len(results)):
        raise typer.Exit(1)


#: A verdict in a table.
_SHORT = {
    "fully observable": "full",
    "partly observable": "partly",
    "cannot be traced": "no",
    "no such driver": "-",
}


def _is_package(word: str) -> bool:
    return "/" in word or word.endswith(".deb")


def _packed(chosen: Sequence[Driver], paths: Sequence[Path], *, named: bool, as_json: bool) -> None:
    """Print what kernels in packages have of drivers, and exit with 1 if that is too little.

    :param named: whether the user named the drivers.
    """
    from toolkit.capture.checkup import check_packed, packed_names, verdict
    from toolkit.capture.packages import read

    kernels = read(paths, *packed_names(chosen), say=lambda line: print(line, file=sys.stderr, flush=True))
    results = {item.name: [(kernel, check_packed(item, kernel)) for kernel in kernels] for item in chosen}
    words = {name: [verdict(findings) for _, findings in of] for name, of in results.items()}
    if as_json:
        print(
            json.dumps(
                {
                    name: [
                        {
                            "kernel": kernel.release,
                            "architecture": kernel.architecture,
                            "verdict": word,
                            "findings": _plain(findings),
                        }
                        for (kernel, findings), word in zip(of, words[name], strict=True)
                    ]
                    for name, of in results.items()
                },
                indent=1,
            )
        )
    else:
        for number, kernel in enumerate(kernels, 1):
            typer.echo(f"[{number}] {kernel.release} ({kernel.architecture})")
        columns = [f"[{number}]" for number in range(1, len(kernels) + 1)]
        width = max(map(len, results))
        typer.secho(" ".join([" " * width, *(f"{column:>6}" for column in columns)]), bold=True)
        for name in results:
            typer.echo(" ".join([f"{name:{width}}", *(f"{_SHORT[word]:>6}" for word in words[name])]))
        for name, of in results.items():
            lacking: dict[Finding, list[str]] = {}
            for column, (_, findings) in zip(columns, of, strict=True):
                for finding in findings:
                    if finding.level != "ok":
                        lacking.setdefault(finding, []).append(column)
            for where in dict.fromkeys(map(tuple, lacking.values())):
                _show(
                    f"{name} {' '.join(where)}",
                    [finding for finding, at in lacking.items() if tuple(at) == where],
                )
    usable = [name for name, of in words.items() if {"fully observable", "partly observable"} & {*of}]
    bad = [name for name, of in words.items() if {"cannot be traced", "no such driver"} & {*of}]
    if not usable or (named and bad):
        raise typer.Exit(1)


def _plain(findings: Sequence[Finding]) -> list[dict[str, object]]:
    return [finding._asdict() for finding in findings]


def _show(title: str, findings: list[Finding]) -> None:
    typer.secho(title, bold=True)
    colours = {"ok": typer.colors.GREEN, "warn": typer.colors.YELLOW, "fail": typer.colors.RED}
    for finding in findings:
        level = f"{finding.level:>6}"
        line = wrapped(f"{level}  {finding.what}: {finding.found}", sys.stdout, 8)
        typer.echo(line.replace(level, typer.style(level, fg=colours[finding.level]), 1))
        if finding.mend:
            typer.echo(wrapped(f"        -> {finding.mend}", sys.stdout, 11))
