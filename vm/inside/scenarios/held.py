# SPDX-License-Identifier: GPL-2.0-only
"""The network keeps what aoe sends: skbs whose data somebody else still holds, which it may not use again.

There is I/O on the AoE disk before, meanwhile, and after. The skbs are held in a copy for a slow device (a
mirror: each for a while, as by a NIC that is slow to clean up, or the first ones until all are let go), or by
a packet socket that nobody reads.
"""

import argparse
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from vm.cmd import output
from vm.inside import aoe, testbed
from vm.inside.aoe import progress

ETH_P_ALL = 3
#: The device that is slow; and how slow, if nothing is to leave it by itself (ms).
SLOW, FOR_EVER = "slow0", 200_000
#: How long I/O may take to end after it was told to (s).
END_SECONDS = 10


def main() -> None:
    parser = testbed.options(__doc__ or "")
    parser.add_argument("--by", choices=("mirror", "socket", "none"), default="mirror", help="who holds them")
    parser.add_argument("--skbs", type=int, default=1000, help="that a mirror holds at most")
    parser.add_argument("--delay", type=int, default=FOR_EVER, help="ms for which a mirror holds each")
    parser.add_argument("--hold", type=float, default=10.0, help="seconds until all are let go")
    parser.add_argument("--rw", choices=("randread", "randwrite"), default="randread", help="what I/O it is")
    parser.add_argument("--size", type=int, default=64, help="KiB of a request")
    parser.add_argument("--threads", type=int, default=1, help="that make requests, one at a time each")
    parser.add_argument("--rate", type=int, default=0, help="requests a second of each; 0: as many as it can")
    parser.add_argument("--pause", type=int, default=0, help="ms of rest after each request")
    parser.add_argument("--before", type=float, default=5.0, help="seconds before")
    parser.add_argument("--after", type=float, default=10.0, help="seconds to go on after")
    arguments = parser.parse_args()
    log = testbed.begin("held", arguments)
    try:
        with progress.witness(arguments.output) as account:
            job = ["--rw", arguments.rw, "--bs", f"{arguments.size}k", "--numjobs", str(arguments.threads)]
            job += ["--rate_iops", str(arguments.rate)] if arguments.rate else []
            # Unlike a rate, a rest is not made up for later: what is sent in a time has a bound.
            job += ["--thinktime", str(arguments.pause * 1000)] if arguments.pause else []
            with _io(job, account):
                with log.phase("before"):
                    time.sleep(arguments.before)
                with ExitStack() as held:
                    held.enter_context(_held(arguments))
                    with log.phase("hold", shortage=True):
                        time.sleep(arguments.hold)
                    with log.phase("let go"):
                        held.close()
                with log.phase("after"):
                    time.sleep(arguments.after)
    finally:
        log.write(arguments.output)


@contextmanager
def _io(job: list[str], account: dict[str, Any]) -> Iterator[None]:
    """I/O for the length of the block, by fio; `account` gets its own latencies, if it ends."""
    with tempfile.NamedTemporaryFile() as said:
        words = ["fio", "--name=io", f"--filename={aoe.DISK}", "--direct=1", "--ioengine=psync", "--thread"]
        words += ["--time_based", "--runtime=86400", "--group_reporting", "--randrepeat=1", *job]
        words += ["--output-format=json", f"--output={said.name}"]
        # One that does not end must not hold whoever waits for the scenario's output.
        nowhere = subprocess.DEVNULL
        fio = subprocess.Popen(words, stdin=nowhere, stdout=nowhere, stderr=nowhere, cwd="/var/tmp")
        try:
            yield
        finally:
            fio.terminate()
            try:
                fio.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                # It waits for a request that does not end, and ends with it: see `python -m vm.aoe poke`.
                account["fio"] = None
            else:
                # Its first line says that it was told to end.
                account["fio"] = _latencies(json.loads("{" + Path(said.name).read_text().partition("{")[2]))


def _latencies(said: dict[str, Any]) -> dict[str, Any]:
    """Return what fio found, by reads and writes: requests, bytes, and [ns] p50, p99 and the longest."""
    (job,) = said["jobs"]
    return {
        way: {
            "requests": job[way]["total_ios"],
            "bytes": job[way]["io_bytes"],
            "p50_ns": job[way]["clat_ns"]["percentile"]["50.000000"],
            "p99_ns": job[way]["clat_ns"]["percentile"]["99.000000"],
            "max_ns": job[way]["clat_ns"]["max"],
        }
        for way in ("read", "write")
        if job[way]["total_ios"]
    }


@contextmanager
def _held(arguments: argparse.Namespace) -> Iterator[None]:
    match arguments.by:
        case "mirror":
            with _mirror(arguments.skbs, arguments.delay):
                yield
        case "socket":
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as unread:
                unread.setsockopt(socket.SOL_SOCKET, testbed.SO_RCVBUFFORCE, 64 * testbed.MIB)
                unread.bind((aoe.INITIATOR, ETH_P_ALL))
                yield
        case _:
            yield


@contextmanager
def _mirror(skbs: int, delay: int) -> Iterator[None]:
    """Frames go to another device besides, whose queue takes so many, and lets each go after so many ms."""
    output("ip", "link", "add", SLOW, "type", "dummy")
    try:
        output("tc", "qdisc", "add", "dev", SLOW, "root", "netem", "delay", f"{delay}ms", "limit", str(skbs))
        output("ip", "link", "set", SLOW, "up")
        output("tc", "qdisc", "add", "dev", aoe.INITIATOR, "clsact")
        action = ["action", "mirred", "egress", "mirror", "dev", SLOW]
        output("tc", "filter", "add", "dev", aoe.INITIATOR, "egress", "matchall", *action)
        yield
    finally:
        subprocess.run(["tc", "qdisc", "del", "dev", aoe.INITIATOR, "clsact"])
        output("ip", "link", "del", SLOW)


if __name__ == "__main__":
    main()
