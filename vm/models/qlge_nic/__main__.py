# SPDX-License-Identifier: GPL-2.0-only
"""``python -m vm.qlge_nic``: run the NIC, and ask or change a running one."""

from __future__ import annotations

import json
import logging
import re
import selectors
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.errors import UserError, one_sentence
from vm.models.client import ask
from vm.models.qlge_nic.control import Control
from vm.models.qlge_nic.nic import Nic
from vm.models.qlge_nic.registers import DEVICE_ID_8000, DEVICE_ID_8012, MAX_RX_RINGS
from vm.models.qlge_nic.wire import Wire
from vm.qemu.files import UNIX_PATH_MAX
from vm.vfio_user.server import Server
from vm.wire.frames import mac as parse_mac

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The parts of QLogic's ISP8000 that the qlge driver uses, for QEMU's vfio-user-pci.",
)

_DEVICES = {"8000": DEVICE_ID_8000, "8012": DEVICE_ID_8012}

ControlPath = Annotated[Path, typer.Argument(metavar="CONTROL", help="What --control named.")]


@app.command()
def serve(
    path: Annotated[Path, typer.Argument(metavar="SOCKET", help="Where QEMU connects; made here.")],
    wire: Annotated[Path | None, typer.Option(help="Where frames for the NIC arrive; made here.")] = None,
    peer: Annotated[Path | None, typer.Option(help="Where the NIC's frames go.")] = None,
    control: Annotated[Path | None, typer.Option(help="Where stats and link ask; made here.")] = None,
    device: Annotated[str, typer.Option(help="8000 or 8012.")] = "8000",
    mac: Annotated[str, typer.Option(help="The adapter's address, in its flash.")] = "52:54:00:00:01:01",
    vectors: Annotated[
        int, typer.Option(help="Of MSI-X: no more receive rings than these.", min=1, max=MAX_RX_RINGS)
    ] = 8,
    steer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PORT[-LAST]=RING", help="Put frames to UDP or TCP ports on a ring; may be repeated."
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End when the first machine has gone.")] = False,
    link: Annotated[bool, typer.Option("--link/--no-link", help="Whether the link is up at first.")] = True,
    log: Annotated[Path | None, typer.Option(help="Also write the log here.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log mailbox commands, too.")] = False,
) -> None:
    """Run a NIC until it is terminated. One machine at a time; the next may come when it has gone.

    Example: python -m vm.qlge_nic serve nic.sock --wire nic0 --peer peer0 --control control
    """
    if device not in _DEVICES:
        raise UserError(f"--device is one of {', '.join(_DEVICES)}.")
    if peer and not wire:
        raise UserError("--peer goes with --wire.")
    for each in (path, wire, peer, control):
        if each and len(str(each)) > UNIX_PATH_MAX:
            raise UserError(f"{each} is too long for a socket's path.")
    _log(log, verbose)
    nic = {"mac": _address(mac), "device_id": _DEVICES[device], "vectors": vectors, "link": link}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    for each in (path, wire, control):
        if each:
            _clear(each)
    with ExitStack() as stack:
        try:
            loop, server = _assemble(stack, path, wire, peer, control, _ports(steer or []), nic)
        except OSError as error:
            raise UserError(f"a socket cannot be made: {error}.") from None
        logging.info("ready: %s as %s", path, device)
        while not (once and server.served):
            for key, _ in loop.select():
                key.data()


@app.command()
def stats(control: ControlPath) -> None:
    """Print a running NIC's counts as JSON."""
    print(json.dumps(ask(control, "stats"), indent=1))


@app.command("link")
def change_link(control: ControlPath, state: Annotated[str, typer.Argument(metavar="up|down")]) -> None:
    """Take a running NIC's link up or down."""
    ask(control, "link", state)


@app.command("steer")
def change_steering(control: ControlPath, port: int, ring: int) -> None:
    """Put frames to a UDP or TCP port on a ring."""
    ask(control, "steer", str(port), str(ring))


def _assemble(
    stack: ExitStack,
    path: Path,
    wire: Path | None,
    peer: Path | None,
    control: Path | None,
    ports: dict[int, int],
    options: dict[str, Any],
) -> tuple[selectors.BaseSelector, Server]:
    """Make all parts of a NIC; they are taken apart again at the end of the stack.

    :param options: of the :class:`Nic`.
    :return: the loop that runs it, and what QEMU connects to.
    :raises OSError: if a socket cannot be made.
    """
    loop = stack.enter_context(selectors.DefaultSelector())
    cable = Wire(wire, peer, loop) if wire else None
    if cable:
        stack.callback(cable.close)
    nic = Nic(send=cable.send if cable else _nowhere, **options)
    stack.callback(nic.close)
    nic.steering.ports |= ports
    if cable:
        cable.serve(nic)
    if control:
        stack.callback(Control(control, nic, cable, loop).close)
    server = Server(path, nic.device, loop)
    stack.callback(server.close)
    return loop, server


def _address(text: str) -> bytes:
    try:
        return parse_mac(text)
    except ValueError:
        raise UserError(f"{text} is no Ethernet address.") from None


def _ports(texts: list[str]) -> dict[int, int]:
    ports: dict[int, int] = {}
    for text in texts:
        found = re.fullmatch(r"(\d+)(?:-(\d+))?=(\d+)", text)
        if not found:
            raise UserError(f"--steer {text} is not PORT=RING, nor FIRST-LAST=RING.")
        first, last, ring = int(found[1]), int(found[2] or found[1]), int(found[3])
        ports |= dict.fromkeys(range(first, last + 1), ring)
    return ports


def _clear(path: Path) -> None:
    """Remove a socket that a killed NIC left behind.

    :raises UserError: if somebody uses it, or the path is no socket.
    """
    if not path.exists():
        return
    if not path.is_socket():
        raise UserError(f"{path} is there, and is no socket.")
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_UNIX, kind) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                continue
            raise UserError(f"{path} is in use.")
    path.unlink()


def _log(path: Path | None, verbose: bool) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if path:
        handlers.append(logging.FileHandler(path))
    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(format="%(asctime)s %(message)s", level=level, handlers=handlers)


def _nowhere(_: bytearray) -> None:
    """Drop a frame: there is no wire."""


@one_sentence("vm.qlge_nic")
def main() -> int:
    app(prog_name="python -m vm.qlge_nic")
    return 0


if __name__ == "__main__":
    sys.exit(main())
