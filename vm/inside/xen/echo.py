# SPDX-License-Identifier: GPL-2.0-only
"""Send ICMP echo requests to a guest, and note when it answers: what the guest itself received, and when.

The account is that of a frame sender (docs/stalls.md), on the clock of dom0. Ends with SIGINT.

Example: python -m vm.xen.echo 1 --rate 500 -o witness.json
"""

import argparse
import json
import select
import signal
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vm.inside import testbed, xen
from vm.paths import CHECKOUT

#: A shorter silence is no gap.
GAP_NS = 100_000_000
#: How long the last answers may take (s).
LATE = 0.5
#: So much may wait unsent or unread; one that is common would fill no queue of netback's.
BUFFER = 16 << 20
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
ICMP_ECHO, ICMP_ECHOREPLY, IP_HEADER, HEADERS = 8, 0, 20, 42
#: Request after request has the next number: high half in the id, low half in the sequence number.
_HEAD = struct.Struct("!BBHHH")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("guest", type=int, help="its number, from 1")
    parser.add_argument("--rate", type=int, default=500, help="requests a second")
    parser.add_argument("--size", type=int, default=1000, help="bytes of a frame")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the account, as JSON")
    arguments = parser.parse_args()
    guest = xen.Guest(arguments.guest)
    sent, answered = _exchange(guest.address, arguments.rate, arguments.size)
    account = {"device": guest.device, "rate": arguments.rate, "size": arguments.size}
    account |= _account(sent, answered)
    # The clock is the trace's own; but a request may be sent later, and its answer come later.
    error = max(1_000_000_000 // arguments.rate, latency(sent, answered, account["gaps"]))
    account["clock"] = {"offset_ns": 0, "error_ns": error}
    arguments.output.write_text(json.dumps(account, indent=1) + "\n")


def options(description: str, rate: int) -> argparse.ArgumentParser:
    """A parser with what every scenario of a dom0 takes.

    :param rate: requests a second, unless it is told otherwise.
    """
    parser = testbed.options(description)
    parser.add_argument("--guest", type=int, default=1, help="its number")
    parser.add_argument("--rate", type=int, default=rate, help="echo requests a second")
    parser.add_argument("--size", type=int, default=1000, help="bytes of a request's frame")
    parser.add_argument("--before", type=float, default=5.0, help="seconds before")
    parser.add_argument("--after", type=float, default=10.0, help="seconds to go on after")
    return parser


@contextmanager
def witness(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Echo requests for the length of the block; then the account, as witness.json beside the phases.

    :param arguments: of a scenario (options).
    :return: what more is to be in the account; netback's own words (`ring`, `log`) will.
    """
    guest = xen.Guest(arguments.guest)
    more: dict[str, Any] = {}
    before = len(xen.log(guest.device))
    with tempfile.NamedTemporaryFile() as account:
        words = [sys.executable, "-m", "vm.inside.xen.echo", str(guest.number), "--rate", str(arguments.rate)]
        words += ["--size", str(arguments.size), "-o", account.name]
        with Popen(words, cwd=CHECKOUT, stdin=DEVNULL, stdout=PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                process.stdout.readline()
                yield more
            finally:
                process.send_signal(signal.SIGINT)
        if process.returncode:
            raise RuntimeError(f"vm.xen.echo ended with status {process.returncode}")
        # Nothing is on its way any more: whatever slot the guest has back is posted again.
        more["ring"] = asdict(xen.ring(guest.device))
        more["log"] = xen.log(guest.device)[before:]
        if arguments.output:
            found = json.dumps({**json.loads(account.read()), **more}, indent=1)
            arguments.output.with_name("witness.json").write_text(found + "\n")


def gaps(sent: NDArray[np.int64], answered: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Find when no answer arrived.

    :param sent: [ns] when each request was sent, ascending.
    :param answered: [ns] when its answer arrived; 0: it never did.
    :return: {start_ns, duration_ns, refused: requests that were sent in it and never answered} each, from the
        last answer before to the first after; one without an end lasts to the last request, marked `open`.
    """
    if not len(sent):
        return []
    arrivals = np.concatenate([sent[:1], np.sort(answered[answered > 0]), sent[-1:]])
    lost = sent[answered == 0]
    found = []
    for place in np.flatnonzero(np.diff(arrivals) >= GAP_NS):
        start, end = arrivals[place], arrivals[place + 1]
        refused = int(np.searchsorted(lost, end) - np.searchsorted(lost, start))
        gap: dict[str, Any] = {"start_ns": int(start), "duration_ns": int(end - start), "refused": refused}
        if place == len(arrivals) - 2:
            gap["open"] = True
        found.append(gap)
    return found


def latency(sent: NDArray[np.int64], answered: NDArray[np.int64], found: list[dict[str, Any]]) -> int:
    """Return how soon 99 of 100 answers came before the first gap [ns]; 0 if none did.

    A guest that waits for a CPU of the host has received a request, and its answer says so only later.
    """
    first = found[0]["start_ns"] if found else np.iinfo(np.int64).max
    before = (answered > 0) & (answered < first)
    return int(np.quantile((answered - sent)[before], 0.99)) if before.any() else 0


def _account(sent: NDArray[np.int64], answered: NDArray[np.int64]) -> dict[str, Any]:
    arrived = int((answered > 0).sum())
    return {"sent": arrived, "refused": len(sent) - arrived, "gaps": gaps(sent, answered)}


def _exchange(address: str, rate: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return when each request was sent [ns], and when it was answered, or 0."""
    stop: list[int] = []
    signal.signal(signal.SIGINT, lambda *_: stop.append(1))
    sent: list[int] = []
    answered: dict[int, int] = {}
    interval = 1_000_000_000 // rate
    data = bytes(size - HEADERS)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as port:
        port.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER)
        port.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        port.setblocking(False)
        port.connect((address, 0))
        print(f"sending to {address}", flush=True)
        due = time.monotonic_ns()
        while not stop:
            now = time.monotonic_ns()
            if now >= due:
                # What is late is not made up for: a burst would be another traffic.
                due = max(due + interval, now)
                port.send(_request(len(sent)) + data)
                sent.append(now)
            if select.select([port], [], [], max(0, due - time.monotonic_ns()) / 1e9)[0]:
                _read(port, answered)
        until = time.monotonic() + LATE
        while (left := until - time.monotonic()) > 0:
            if select.select([port], [], [], left)[0]:
                _read(port, answered)
    times = np.zeros(len(sent), np.int64)
    for number, when in answered.items():
        # Somebody else's ping has other numbers.
        if number < len(times):
            times[number] = when
    return np.array(sent, np.int64), times


def _request(number: int) -> bytes:
    """Return the head of an echo request; the data is zeros, and adds nothing to the checksum."""
    high, low = number >> 16, number & 0xFFFF
    total = (ICMP_ECHO << 8) + high + low
    total = (total & 0xFFFF) + (total >> 16)
    return _HEAD.pack(ICMP_ECHO, 0, ~total & 0xFFFF, high, low)


def _read(port: socket.socket, answered: dict[int, int]) -> None:
    """Notes the answers that have arrived."""
    while True:
        try:
            packet = port.recv(64)
        except BlockingIOError:
            return
        kind, _, _, high, low = _HEAD.unpack_from(packet, IP_HEADER)
        if kind == ICMP_ECHOREPLY:
            answered.setdefault(high << 16 | low, time.monotonic_ns())


if __name__ == "__main__":
    main()
