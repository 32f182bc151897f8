# SPDX-License-Identifier: GPL-2.0-only
"""``python -m vm.wire``: frames into a NIC under test, and what it refused."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from toolkit.errors import UserError, one_sentence
from vm import guest
from vm.qemu.command import mac
from vm.wire import frames, sender

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def wire(
    machine: Annotated[str | None, typer.Argument(help="A running machine; or use --socket.")] = None,
    socket: Annotated[Path | None, typer.Option(help="The NIC's unix datagram socket.")] = None,
    nic: Annotated[int, typer.Option(help="Which NIC under test, from 0.")] = 0,
    size: Annotated[int, typer.Option(help="Bytes of a frame.")] = 1500,
    rate: Annotated[float, typer.Option(help="Frames a second.", min=1)] = 5000,
    count: Annotated[int | None, typer.Option(help="End after so many frames.")] = None,
    duration: Annotated[float | None, typer.Option(help="End after so many seconds.")] = None,
    dst: Annotated[str | None, typer.Option(help="The NIC's address; that of NIC --nic by default.")] = None,
    dst_ip: Annotated[str, typer.Option(help="The receiver's IPv4 address.")] = frames.DESTINATION,
    ports: Annotated[str, typer.Option(help="UDP ports in turn: 9000 or 9000-9047 or 9001,9004.")] = "9000",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the account here.")] = None,
    refused: Annotated[
        Path | None, typer.Option(help="Write each refused frame's time here (.npy, int64 ns).")
    ] = None,
) -> None:
    """Send frames to a machine's NIC and print what was refused as JSON. Never waits; Ctrl-C ends it.

    With --output, the line "sending" is printed instead, when it begins.

    Example: python -m vm.wire virtio-net --rate 6000 --duration 10
    """
    if (machine is None) == (socket is None):
        raise UserError("name either a machine or a --socket.")
    path = socket or guest.find(str(machine)).wire(nic)
    try:
        ready = frames.to_ports(size, _ports(ports), dst_mac=dst or mac(nic), dst=dst_ip)
    except ValueError as error:
        raise UserError(f"{error}.") from None
    stopping: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _: stopping.append(got))
    with sender.connect(path) as channel:
        if output:
            print("sending", flush=True)
        account = sender.send(
            channel,
            ready,
            rate=rate,
            count=count,
            duration=duration,
            stop=lambda: bool(stopping),
            show=_show if sys.stderr.isatty() else None,
        )
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    text = json.dumps(account.as_json(), indent=1)
    if refused:
        np.save(refused, np.array(account.refused))
    if output:
        output.write_text(text + "\n")
    else:
        print(text)


def _ports(text: str) -> list[int]:
    """Return the ports that a list like 9000-9047,9100 names.

    :raises ValueError: if a part is neither a number nor FIRST-LAST.
    """
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def _show(account: sender.Account) -> None:
    line = f"{account.sent:,} sent  {len(account.refused):,} refused  {len(account.gaps)} gaps"
    print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


@one_sentence("vm.wire")
def main() -> int:
    app()
    return 0


if __name__ == "__main__":
    sys.exit(main())
