# SPDX-License-Identifier: GPL-2.0-only
"""Tell a running QEMU something, in its machine protocol (QMP)."""

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.errors import UserError


def tell(path: Path, command: str, arguments: Mapping[str, Any]) -> None:
    """Tell QEMU something, in its machine protocol (QMP).

    :raises OSError: if it cannot be reached.
    :raises UserError: if it refuses, or ends.
    """
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(10)
        monitor.connect(str(path))
        with monitor.makefile("rw") as lines:
            for number, (name, given) in enumerate((("qmp_capabilities", {}), (command, arguments))):
                lines.write(json.dumps({"execute": name, "arguments": given, "id": number}) + "\n")
                lines.flush()
                # It says other things, too: a greeting, and events.
                answer = next((said for said in map(json.loads, lines) if said.get("id") == number), None)
                if answer is None or "error" in answer:
                    raise UserError(f"QEMU does not {name}: {answer and answer['error']['desc']}")
