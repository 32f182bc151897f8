# SPDX-License-Identifier: GPL-2.0-only
"""In a dom0: a large file copy to a guest, as fast as TCP may, which is what "improve guest-receive-side flow
control" (ca2f09f2, 2013) says stalls netback for ever.
"""

import socket
import struct
import time
from contextlib import suppress

from vm.inside import testbed, xen
from vm.inside.xen import echo

CHUNK = 1 << 20
#: Offset of tcpi_bytes_acked in struct tcp_info (include/uapi/linux/tcp.h).
BYTES_ACKED = 120


def main() -> None:
    parser = echo.options(__doc__ or "", rate=20)
    parser.add_argument("--duration", type=int, default=20, help="seconds of copying")
    parser.add_argument("--sender", type=int, help="the guest that sends, which runs already; else dom0 does")
    arguments = parser.parse_args()
    guest = xen.Guest(arguments.guest)
    log = testbed.begin("bulk", arguments)
    try:
        with echo.witness(arguments) as account:
            with log.phase("before"):
                time.sleep(arguments.before)
            with log.phase("bulk"):
                if arguments.sender:
                    command = f"timeout {arguments.duration} nc {guest.address} {xen.SINK} </dev/zero &"
                    xen.tell(xen.Guest(arguments.sender), command)
                    time.sleep(arguments.duration)
                else:
                    account["bytes"] = _copy(guest.address, arguments.duration)
            with log.phase("after"):
                time.sleep(arguments.after)
    finally:
        log.write(arguments.output)


def send(connection: socket.socket, seconds: float) -> None:
    """Send zeros for so long, as fast as the receiver takes them."""
    zeros = bytes(CHUNK)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        connection.settimeout(left)
        with suppress(TimeoutError):
            connection.send(zeros)


def _copy(address: str, seconds: float) -> int:
    """Return the bytes that the guest's TCP has acknowledged after so long."""
    with socket.create_connection((address, xen.SINK), timeout=10) as connection:
        # What was not sent when the time is over is not sent any more.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        send(connection, seconds)
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_ACKED + 8)
    return int(struct.unpack_from("Q", info, BYTES_ACKED)[0])


if __name__ == "__main__":
    main()
