# SPDX-License-Identifier: GPL-2.0-only
"""What a service tells the systemd that started it (sd_notify(3)); without one, nothing."""

import contextlib
import os
import socket


def notify(state: str) -> None:
    """Send a state, such as READY=1 or WATCHDOG=1, to the socket of NOTIFY_SOCKET."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    name = "\0" + address[1:] if address.startswith("@") else address
    # Nobody may listen any more: that is no reason to end.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
        any_socket.sendto(state.encode(), name)
