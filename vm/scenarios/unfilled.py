# SPDX-License-Identifier: GPL-2.0-only
"""In a dom0: a guest whose memory is short, so that its frontend cannot fill the ring again.

What arrives stays in a connection that nobody reads; and for a set time the guest's kernel keeps its free
memory back (vm.min_free_kbytes), as in knob.py. xen-netfront asks for a page at a time, with GFP_ATOMIC, and
tries again ten times a second (xennet_alloc_rx_buffers).
"""

import socket
import time

from vm import xen
from vm.scenarios import bulk, testbed
from vm.xen import echo

#: More than a guest has (KiB).
ALL = 4_000_000
KNOB = "/proc/sys/vm/min_free_kbytes"


def main() -> None:
    parser = echo.options(__doc__ or "", rate=500)
    parser.add_argument("--hold", type=int, default=5, help="seconds for which memory is kept back")
    arguments = parser.parse_args()
    guest = xen.Guest(arguments.guest)
    log = testbed.begin("unfilled")
    try:
        with (
            echo.witness(arguments),
            socket.create_connection((guest.address, xen.UNREAD), timeout=10) as unread,
        ):
            with log.phase("before"):
                time.sleep(arguments.before)
            # The guest ends it by itself: nobody can tell it anything meanwhile.
            hold = f"echo {ALL} >{KNOB}; read -t {arguments.hold} _; echo $usual >{KNOB}"
            xen.tell(guest, f"usual=$(cat {KNOB}); {hold}")
            with log.phase("hold", shortage=True):
                bulk.send(unread, arguments.hold)
            with log.phase("after"):
                time.sleep(arguments.after)
            # What was not read is given back with the process that did not read it.
            xen.tell(guest, "killall sleep")
    finally:
        log.write(arguments.output)


if __name__ == "__main__":
    main()
