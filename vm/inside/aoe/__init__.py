# SPDX-License-Identifier: GPL-2.0-only
"""The AoE disk of a testbed machine: for use in it, as root.

The machine is its own target: one NIC is in a network namespace, where vblade serves a file as e1.1; the
driver sends by the other, which is on the same hub.
"""

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import UserError
from vm.cmd import output

INITIATOR, TARGET = "eth1", "eth2"
NAMESPACE = "target"
SHELF, SLOT = 1, 1
DISK = Path(f"/dev/etherd/e{SHELF}.{SLOT}")
#: What the disk has done, by the block layer's account.
STAT = Path(f"/sys/block/etherd!e{SHELF}.{SLOT}/stat")
#: What the driver says of the disk itself.
DEBUG = Path(f"/sys/kernel/debug/aoe/e{SHELF}.{SLOT}")
CONTROL = Path("/dev/etherd")
MADE = Path("/var/tmp/rx-stall-aoe")
SIZE = 64 << 20
#: Frames that the target takes at once.
FRAMES = 64
START_SECONDS = 60
#: How long a request may take before it is made again.
POKE_SECONDS = 2
#: An EtherType for local experiments (IEEE 802).
EXPERIMENTAL = bytes.fromhex("88b5")


def start() -> None:
    """Start the target, load the driver, and wait for the disk.

    :raises UserError: if it does not come.
    """
    if not Path("/run/netns", NAMESPACE).exists():
        output("ip", "netns", "add", NAMESPACE)
        output("ip", "link", "set", TARGET, "netns", NAMESPACE)
        output("ip", "-n", NAMESPACE, "link", "set", TARGET, "up")
        output("ip", "link", "set", INITIATOR, "up")
        with MADE.open("wb") as file:
            file.truncate(SIZE)
        words = ["vblade", "-b", str(FRAMES), str(SHELF), str(SLOT), TARGET, str(MADE)]
        subprocess.Popen(
            ["ip", "netns", "exec", NAMESPACE, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    output("modprobe", "aoe", f"aoe_iflist={INITIATOR}")
    discover()


def discover() -> None:
    """Has the driver look for its disk, and waits for it.

    :raises UserError: if it does not come.
    """
    deadline = time.monotonic() + START_SECONDS
    while not (DEBUG.exists() and DISK.is_block_device()):
        if time.monotonic() > deadline:
            raise UserError(f"{DISK} did not appear within {START_SECONDS} s; does vblade run?")
        # udev makes the files of a driver that was just loaded.
        if (CONTROL / "interfaces").is_char_device():
            (CONTROL / "interfaces").write_text(INITIATOR)
            (CONTROL / "discover").write_text("1")
        time.sleep(0.2)


@contextmanager
def away() -> Iterator[None]:
    """Another module is put in, in the block; then the disk is looked for."""
    poke()
    _clean_up()
    yield
    discover()


def _clean_up() -> None:
    """Has the NIC free what it has sent, which it does when it sends: the driver waits for its skbs."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as port:
        port.bind((INITIATOR, 0))
        port.send(bytes.fromhex("ffffffffffff") + port.getsockname()[4] + EXPERIMENTAL + bytes(46))


def poke() -> None:
    """Read 4 KiB: a request that arrives makes the driver look at those that wait, too.

    It may find all skbs held by the NIC, which frees none before it sends: so somebody else sends, and
    another request is made.

    :raises UserError: if the disk cannot be read, or does not answer.
    """
    words = ["dd", f"if={DISK}", "of=/dev/null", "iflag=direct", "bs=4096", "count=1"]
    deadline = time.monotonic() + START_SECONDS
    reads: list[subprocess.Popen[bytes]] = []
    while not reads or reads[-1].poll() is None:
        if time.monotonic() > deadline:
            raise UserError(f"{DISK} did not answer within {START_SECONDS} s.")
        _clean_up()
        reads.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        with suppress(subprocess.TimeoutExpired):
            reads[-1].wait(POKE_SECONDS)
    if any(read.wait() for read in reads):
        raise UserError(f"{DISK} cannot be read.")


@dataclass(frozen=True)
class State:
    """The driver's own account of the disk (aoe_debugfs_show in drivers/block/aoe/aoeblk.c).

    :param pool: skbs in the pool.
    :param kicked: how often it found no frame while none was out.
    :param out: frames that are out.
    :param window: how many may be.
    :param sent: frames that were sent for reads and writes, without repetitions.
    """

    pool: int
    kicked: int
    out: int
    window: int
    sent: int


def state() -> State:
    """The disk's state now."""
    return read_state(DEBUG.read_text())


def read_state(text: str) -> State:
    """Read what debugfs says of a disk with one target."""
    pool = re.search(r"nskbpool: (\d+)", text)
    kicked = re.search(r"kicked: (\d+)", text)
    window = re.search(r"^[0-9a-f:]{12,17}:(\d+):(\d+):\d+$", text, re.MULTILINE)
    sent = re.findall(r"^\t[rw]:(\d+)$", text, re.MULTILINE)
    if not (pool and kicked and window and len(sent) == 2):
        raise UserError("this kernel's account of an aoe disk in debugfs is of another form.")
    return State(int(pool[1]), int(kicked[1]), int(window[1]), int(window[2]), sum(map(int, sent)))
