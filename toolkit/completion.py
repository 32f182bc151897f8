# SPDX-License-Identifier: GPL-2.0-only
"""What a shell completes beside commands, options and files; and how options are read."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from toolkit import quantities


class Shell(StrEnum):
    """Shells that complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def drivers(incomplete: str) -> list[str]:
    """Return the drivers whose name begins so."""
    from toolkit.drivers import names

    return [name for name in names() if name.startswith(incomplete)]


def devices(incomplete: str) -> list[str]:
    """Return the network devices of this machine whose name begins so."""
    return sorted(path.name for path in Path("/sys/class/net").glob(f"{incomplete}*"))


def details(incomplete: str) -> list[str]:
    """Return the values of --detail that begin so."""
    return [each for each in ("normal", "full") if each.startswith(incomplete)]


def nanoseconds(text: str) -> int:
    """Read an option that is a time."""
    try:
        return quantities.nanoseconds(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def size(text: str) -> int:
    """Read an option that is a size in bytes."""
    try:
        return quantities.size(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def amount(text: str) -> quantities.Amount:
    """Read an option that is a time or a size."""
    try:
        return quantities.amount(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


SilenceOver = Annotated[
    int | None,
    typer.Option(
        metavar="TIME",
        parser=nanoseconds,
        help="Count a slow refill, a slow poll or a wait for a poll from this length on [default: 10ms, "
        "which is the least]",
    ),
]
BriefUnder = Annotated[
    int | None,
    typer.Option(
        metavar="TIME",
        parser=nanoseconds,
        help="Call stalls that are shorter brief, which no headline counts [default: 10ms]",
    ),
]
"""The options of each command that analyzes, for toolkit.stalls.thresholds."""

Device = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        "-d",
        metavar="DEVICE",
        help="Only this network device, NAMESPACE/DEVICE if it is in another namespace; may be repeated.",
        autocompletion=devices,
    ),
]
"""The option of each command that traces."""
