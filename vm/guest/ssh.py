# SPDX-License-Identifier: GPL-2.0-only
"""The ssh of machines: its settings, its key, and whether it answers."""

import contextlib
import socket
from pathlib import Path

from vm.cmd import cmd
from vm.paths import locked, of_checkout

USER = "vagrant"
_SETTINGS = {
    "BatchMode": "yes",
    "IdentitiesOnly": "yes",
    "StrictHostKeyChecking": "no",
    "UserKnownHostsFile": "/dev/null",
    "LogLevel": "ERROR",
    "ConnectTimeout": "10",
    # The cheapest that both ends have: under software emulation the default takes a second longer.
    "KexAlgorithms": "curve25519-sha256",
    "PreferredAuthentications": "publickey",
    "ServerAliveInterval": "30",
    "ServerAliveCountMax": "20",
}


def argv(port: int, control: Path | None, *options: str) -> list[str]:
    """Return the ssh command up to the host's name.

    :param port: of 127.0.0.1.
    :param control: the socket of a connection that others use, too; None: a connection of its own.
    :param options: more of ssh.
    """
    settings = dict(_SETTINGS)
    if control:
        settings |= {"ControlMaster": "auto", "ControlPersist": "yes", "ControlPath": str(control)}
    words = ["ssh", "-F", "none", "-i", str(key()), "-p", str(port), "-l", USER]
    for name, value in settings.items():
        words += ["-o", f"{name}={value}"]
    return [*words, *options, "127.0.0.1"]


def key() -> Path:
    """Return the private key of this checkout, made at the first call."""
    path = of_checkout() / "key"
    if not path.exists():
        with locked(".key"):
            if not path.exists():
                cmd(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "rx-stall testbed", "-f", path])
    return path


def public_key() -> str:
    """Return the line that lets this checkout in."""
    return key().with_suffix(".pub").read_text().strip()


def answers(port: int) -> bool:
    """Whether an ssh server is behind a port of 127.0.0.1."""
    # QEMU accepts at once, and closes again while nobody listens in the guest: only the banner is proof.
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        return connection.recv(4) == b"SSH-"
    return False


def free_port() -> int:
    """Return a port of 127.0.0.1 at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
