# SPDX-License-Identifier: GPL-2.0-only
"""Ask a running NIC of our own: a line in, a line of JSON out."""

import json
import socket
from pathlib import Path
from typing import Any

from toolkit.errors import UserError

_TIMEOUT_SECONDS = 5.0


def ask(path: Path, *words: str) -> dict[str, Any]:
    """Send a command to a running NIC.

    :return: its answer.
    :raises UserError: if no NIC is there, or it does not know the command.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(_TIMEOUT_SECONDS)
        try:
            channel.connect(str(path))
            channel.sendall(" ".join(words).encode() + b"\n")
            answer: dict[str, Any] = json.loads(b"".join(iter(lambda: channel.recv(1 << 16), b"")))
        except (OSError, ValueError) as error:
            raise UserError(f"no NIC answers at {path}: {error}; does it run?") from None
    if "error" in answer:
        raise UserError(answer["error"])
    return answer
