# SPDX-License-Identifier: GPL-2.0-only
"""`toolkit drivers`: which drivers the toolkit knows."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def drivers(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the drivers that can be traced, and their states.

    Example: toolkit drivers
    """
    from toolkit.drivers import load, names

    known = [load(name) for name in names()]
    if as_json:
        print(
            json.dumps(
                [
                    {
                        "name": driver.name,
                        "title": driver.title,
                        "queue": driver.queue,
                        "states": [state.name for state in driver.states],
                    }
                    for driver in known
                ],
                indent=1,
            )
        )
        return
    for driver in known:
        print(
            f"{driver.title}\n    queue: {driver.queue}; states: {', '.join(s.name for s in driver.states)}"
        )
