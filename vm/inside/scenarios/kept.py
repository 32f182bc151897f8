# SPDX-License-Identifier: GPL-2.0-only
"""A program that receives with AF_XDP, without a copy, and for a set time hands no buffer back."""

from __future__ import annotations

import select
import time
from typing import Protocol

from vm.inside import testbed, xdp


def main() -> None:
    parser = testbed.options(__doc__ or "")
    parser.add_argument("--device", default="eth1", help="the device that receives")
    parser.add_argument("--buffers", type=int, default=1024, help="that the program has, a power of two")
    parser.add_argument("--hold", type=float, default=3.0, help="seconds for which it keeps them")
    parser.add_argument("--before", type=float, default=2.0, help="seconds before that")
    parser.add_argument("--after", type=float, default=2.0, help="seconds to go on after that")
    parser.add_argument("--spin", action="store_true", help="let the driver poll while it has no buffer")
    arguments = parser.parse_args()

    log = testbed.begin("kept", arguments)
    try:
        program = xdp.Socket(arguments.device, 0, arguments.buffers, wakeup=not arguments.spin)
        with program.receiving(arguments.device):
            with log.phase("before"):
                receive(program, arguments.before)
            with log.phase("kept"):
                time.sleep(arguments.hold)
            with log.phase("after"):
                receive(program, arguments.after)
    finally:
        log.write(arguments.output)


class Receiver(Protocol):
    """What xdp.Socket is here."""

    def fileno(self) -> int:
        """Return the descriptor, which is readable when there are frames."""
        ...

    def give_back(self) -> int:
        """Hand all buffers with frames back; return how many there were."""
        ...


def receive(program: Receiver, seconds: float) -> int:
    """Hand buffers back as soon as they have frames; return how many had."""
    until = time.monotonic() + seconds
    count = 0
    while (left := until - time.monotonic()) > 0:
        is_readable(program, left)
        count += program.give_back()
    return count


def is_readable(program: Receiver, seconds: float) -> bool:
    """Wait until there are frames; tell whether there are. This also wakes a driver up that has no buffer."""
    poll = select.poll()
    poll.register(program.fileno(), select.POLLIN)
    return bool(poll.poll(max(seconds, 0) * 1000))


if __name__ == "__main__":
    main()
