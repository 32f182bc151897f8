# SPDX-License-Identifier: GPL-2.0-only
"""systemd in a machine that `python -m vm` has started with a quicker init."""

import time
from contextlib import suppress
from subprocess import TimeoutExpired

from vm import guest
from vm.guest import ssh

#: How long systemd may take until ssh answers again (s).
SECONDS = 300


def take_over(machine: guest.Guest) -> None:
    """Have systemd be the first process of a running machine; whatever ran there is ended.

    busybox as the first process ends all others at SIGQUIT, and then becomes what its inittab has for
    `restart`.
    """
    # mmdebstrap forbids packages to start or stop a service; the disk is made before it allows that again.
    machine.ssh("sudo rm -f /usr/sbin/policy-rc.d", check=True)
    command = "echo ::restart:/lib/systemd/systemd >>/etc/inittab; kill -HUP 1; sleep 2; kill -QUIT 1"
    with suppress(TimeoutExpired):
        machine.ssh(f"sudo sh -c '{command}'", timeout=30)
    deadline = time.monotonic() + SECONDS
    while not (ssh.answers(machine.port) and _is_up(machine)):
        assert time.monotonic() < deadline, f"systemd did not come up in {SECONDS} s"
        time.sleep(1)


def _is_up(machine: guest.Guest) -> bool:
    """Whether systemd has started all that it is to start; it may also be degraded."""
    with suppress(TimeoutExpired):
        said = machine.ssh("systemctl is-system-running", timeout=30).stdout.strip()
        return said in ("running", "degraded")
    return False
