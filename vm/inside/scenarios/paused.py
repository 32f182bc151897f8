# SPDX-License-Identifier: GPL-2.0-only
"""In a dom0: a guest that does not run, so that nothing takes its packets, nor posts ring slots.

The time counts from when its ring is used up, and netback's packets wait. A burst uses it up at once: until
then netback takes packets, though nobody answers them.
"""

import socket
import time
from contextlib import suppress
from dataclasses import asdict

from vm.inside import testbed, xen
from vm.inside.xen import echo

#: How long the packets may take that use up a ring.
USED_UP_SECONDS = 60
#: Datagrams, each of six packets: as many as use up a ring (XEN_NETIF_RX_RING_SIZE in
#: drivers/net/xen-netback/common.h: 256 slots).
BURST, DATAGRAM = 43, bytes(8000)
DISCARD = 9


def main() -> None:
    parser = echo.options(__doc__ or "", rate=500)
    parser.add_argument("--pause", type=float, default=40.0, help="seconds for which its packets wait")
    arguments = parser.parse_args()
    guest = xen.Guest(arguments.guest)
    log = testbed.begin("paused", arguments)
    try:
        with echo.witness(arguments) as account:
            with log.phase("before"):
                time.sleep(arguments.before)
            with log.phase("paused"), xen.paused(guest):
                _burst(guest)
                account["used_up_ns"] = xen.used_up(guest.device, USED_UP_SECONDS)
                time.sleep(arguments.pause)
                account["ring_paused"] = asdict(xen.ring(guest.device))
            with log.phase("after"):
                time.sleep(arguments.after)
    finally:
        log.write(arguments.output)


def _burst(guest: xen.Guest) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port, suppress(TimeoutError):
        port.settimeout(1)
        port.setsockopt(socket.SOL_SOCKET, echo.SO_SNDBUFFORCE, echo.BUFFER)
        for _ in range(BURST):
            port.sendto(DATAGRAM, (guest.address, DISCARD))


if __name__ == "__main__":
    main()
