# SPDX-License-Identifier: GPL-2.0-only
"""`toolkit doctor`: what this machine lets the toolkit see."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit import completion
from toolkit.printable import wrapped

if TYPE_CHECKING:
    from toolkit.capture.checkup import Finding


def doctor(
    driver: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DRIVER",
            help="Only these drivers [default: all]",
            autocompletion=completion.drivers,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say per driver what this kernel can show.

    And how to get what is missing. What is the same for all drivers is said once. Nothing is left attached.

    Exits with 1 if a driver that was named cannot be traced, or none of those that are loaded can.

    Example: sudo toolkit doctor virtio_net
    """
    from toolkit.capture.checkup import check
    from toolkit.drivers import load, names

    chosen = [load(name) for name in driver or names()]
    results = {item.name: check(item) for item in chosen}
    if as_json:
        print(
            json.dumps(
                {name: [finding._asdict() for finding in findings] for name, findings in results.items()},
                indent=1,
            )
        )
    else:
        first, *others = results.values()
        common = [finding for finding in first if others and all(finding in other for other in others)]
        if common:
            _show("all drivers", common)
        for name, findings in results.items():
            own = [finding for finding in findings if finding not in common]
            _show(f"{name}: {_verdict(findings)}", own)
    usable = [
        name for name, findings in results.items() if not any(finding.level == "fail" for finding in findings)
    ]
    if not usable or (driver and len(usable) < len(results)):
        raise typer.Exit(1)


def _verdict(findings: list[Finding]) -> str:
    levels = {finding.level for finding in findings}
    if "fail" in levels:
        return "cannot be traced"
    return "partly observable" if "warn" in levels else "fully observable"


def _show(title: str, findings: list[Finding]) -> None:
    typer.secho(title, bold=True)
    colours = {"ok": typer.colors.GREEN, "warn": typer.colors.YELLOW, "fail": typer.colors.RED}
    for finding in findings:
        level = f"{finding.level:>6}"
        line = wrapped(f"{level}  {finding.what}: {finding.found}", sys.stdout, 8)
        typer.echo(line.replace(level, typer.style(level, fg=colours[finding.level]), 1))
        if finding.mend:
            typer.echo(wrapped(f"        -> {finding.mend}", sys.stdout, 11))
