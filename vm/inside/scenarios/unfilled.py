# SPDX-License-Identifier: GPL-2.0-only
"""In a dom0: a guest whose memory is short, so that its frontend cannot fill the ring again.

What arrives stays in a connection that nobody reads; and for a set time the guest's kernel keeps its free
memory back (vm.min_free_kbytes), as in knob.py. Genuine with --full: files take the guest's memory but for
some MiB, the connection takes those, and nothing is kept back. xen-netfront asks for a page at a time, with
GFP_ATOMIC, and tries again ten times a second (xennet_alloc_rx_buffers).
"""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from vm.inside import testbed, xen
from vm.inside.scenarios import bulk
from vm.inside.xen import echo

#: More than a guest has (KiB).
ALL = 4_000_000
KNOB = "/proc/sys/vm/min_free_kbytes"
#: MiB that files leave: less than one connection may take (vm/inside/xen/init).
LEFT = 8
FILE = "/tmp/file"
FILL = (
    "{ read -r _; read -r _ free _; } </proc/meminfo; "
    f"dd if=/dev/zero of={FILE} bs=1M count=$((free / 1024 - {LEFT}))"
)


def main() -> None:
    parser = echo.options(__doc__ or "", rate=500)
    parser.add_argument("--hold", type=int, default=5, help="seconds for which memory is short")
    parser.add_argument("--min-free", type=int, default=ALL, help="vm.min_free_kbytes during the hold")
    parser.add_argument("--full", action="store_true", help="fill the memory, instead of keeping it back")
    arguments = parser.parse_args()
    guest = xen.Guest(arguments.guest)
    log = testbed.begin("unfilled", arguments)
    try:
        with (
            echo.witness(arguments) as account,
            socket.create_connection((guest.address, xen.UNREAD), timeout=10) as unread,
        ):
            begin, end = f"usual=$(cat {KNOB}); echo {arguments.min_free} >{KNOB}", f"echo $usual >{KNOB}"
            if arguments.full:
                begin, end = ":", f": >{FILE}"
                xen.tell(guest, FILL)
            with log.phase("before"):
                time.sleep(arguments.before)
            # The guest ends it by itself: nobody can tell it anything meanwhile.
            xen.tell(guest, f"{begin}; read -t {arguments.hold} _; {end}")
            with log.phase("hold", shortage=True), ThreadPoolExecutor(1) as looking:
                used_up = looking.submit(xen.used_up, guest.device, arguments.hold - 0.5)
                bulk.send(unread, arguments.hold - 0.5)
                account["used_up_ns"] = used_up.result()
                account["ring_hold"] = asdict(xen.ring(guest.device))
                time.sleep(0.5)
            with log.phase("after"):
                time.sleep(arguments.after)
            # What was not read is given back with the process that did not read it.
            xen.tell(guest, "killall sleep")
    finally:
        log.write(arguments.output)
    if account["used_up_ns"] is None:
        testbed.missed("unfilled: the guest's ring was not used up.")


if __name__ == "__main__":
    main()
