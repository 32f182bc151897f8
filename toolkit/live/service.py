# SPDX-License-Identifier: GPL-2.0-only
"""What a service tells the systemd that started it (sd_notify(3)); without one, nothing."""

import contextlib
import os
import socket

#: A recorder that starts again may take so long, as in TimeoutStartSec of the unit (µs).
_START_US = 600_000_000


def is_starting_again() -> None:
    """Have systemd wait for the next READY=1 as long as for the first, and watch nothing until then."""
    notify(f"WATCHDOG_USEC={_START_US}")


def is_ready() -> None:
    """Tell that the service runs; from now on it is watched."""
    usual = os.environ.get("WATCHDOG_USEC")
    notify(f"READY=1\nWATCHDOG_USEC={usual}" if usual else "READY=1")


def notify(state: str) -> None:
    """Send a state, such as READY=1 or WATCHDOG=1, to the socket of NOTIFY_SOCKET."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    name = "\0" + address[1:] if address.startswith("@") else address
    # Nobody may listen any more: that is no reason to end.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
        any_socket.sendto(state.encode(), name)
