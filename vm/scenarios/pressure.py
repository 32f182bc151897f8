# SPDX-License-Identifier: GPL-2.0-only
"""Genuine: received packets stay in sockets that nobody reads, while memory is dirtied faster than swap is.

The method of the tests in the cover letter of "staging: qlge: Fix rx stall in case of allocation
failures" (2019).
"""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

from vm.scenarios import testbed

MIB = 1 << 20
SO_RCVBUFFORCE = 33


def main() -> None:
    parser = testbed.options(__doc__ or "")
    parser.add_argument("--duration", type=float, default=40.0, help="seconds of pressure")
    parser.add_argument("--dirty", type=int, default=750, help="MiB that are written over and over")
    parser.add_argument("--device", default="eth1", help="the device that receives")
    parser.add_argument("--address", default="192.0.2.1/24", help="its address meanwhile")
    parser.add_argument("--ports", default="9000-9047", help="UDP ports to receive on, and never to read")
    parser.add_argument("--buffer", type=int, default=6, help="MiB that each socket may hold")
    parser.add_argument("--min-free", type=int, default=4096, help="vm.min_free_kbytes meanwhile")
    parser.add_argument(
        "--recycle", type=float, default=20.0, help="seconds after which the sockets are emptied"
    )
    parser.add_argument("--after", type=float, default=5.0, help="seconds to go on when memory is free again")
    arguments = parser.parse_args()
    first, _, last = arguments.ports.partition("-")
    ports = range(int(first), int(last or first) + 1)

    log = testbed.begin("pressure")
    try:
        with ExitStack() as stack:
            with log.phase("prepare"):
                stack.enter_context(testbed.address(arguments.device, arguments.address))
                stack.enter_context(testbed.sysctl("net.ipv4.udp_mem", "2000000 2000000 2000000"))
                stack.enter_context(testbed.pressure(arguments.dirty * MIB, arguments.min_free))
            testbed.stay()
            end = time.monotonic() + arguments.duration
            with log.phase("pressure", shortage=True):
                while (left := end - time.monotonic()) > 0:
                    unread = [_socket(port, arguments.buffer * MIB) for port in ports]
                    time.sleep(min(arguments.recycle, left))
                    for each in unread:
                        each.close()
        with log.phase("recover"):
            time.sleep(arguments.after)
    finally:
        log.write(arguments.output)


def _socket(port: int, size: int) -> socket.socket:
    """A UDP socket that takes `size` bytes and is never read."""
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
    found.bind(("", port))
    return found


if __name__ == "__main__":
    main()
