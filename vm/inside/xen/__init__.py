# SPDX-License-Identifier: GPL-2.0-only
"""The guests of a testbed machine that is a Xen host: for use in its dom0, as root.

A guest is PV and consists of the machine's own kernel, busybox and xen-netfront. Its interface in dom0
(`vif-NAME`) is a port of one bridge, on which dom0 has an address; nothing else is there. A guest that is
`whole` has the machine's own files, too, and so the toolkit: in WHOLE, to be used with chroot(1). What it
writes there it keeps in memory.
"""

import ctypes
import gzip
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import UserError
from vm.cmd import output

BRIDGE, NETWORK = "xenbr0", "192.0.2"
INIT = Path(__file__).parent / "init"
#: What INIT and `tell` call.
APPLETS = ["sh", "mount", "mkdir", "insmod", "swapon", "chroot", "ip", "nc"]
APPLETS += ["dd", "cat", "sleep", "timeout", "killall"]
#: What is made for guests: the ramdisk, and a configuration each.
MADE = Path("/var/lib/rx-stall-xen")
LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
DEBUG = Path("/sys/kernel/debug/xen-netback")
WHOLE = "/whole"
START_SECONDS = 90
#: Where a guest takes TCP: to throw it away, and to leave it unread (vm/inside/xen/init).
SINK, UNREAD = 9000, 9001
#: A packet may need so many slots (XEN_NETBK_LEGACY_SLOTS_MAX in drivers/net/xen-netback/common.h).
MOST_SLOTS = 18


@dataclass(frozen=True)
class Guest:
    """A guest by its number, from 1."""

    number: int

    @property
    def name(self) -> str:
        return f"guest{self.number}"

    @property
    def device(self) -> str:
        """Its interface in dom0: the same after a restart, when its domain has another number."""
        return f"vif-{self.name}"

    @property
    def address(self) -> str:
        return f"{NETWORK}.{10 + self.number}"

    @property
    def mac(self) -> str:
        return f"00:16:3e:00:00:{self.number:02x}"


def start(guest: Guest, memory_mb: int, *, whole: bool = False) -> None:
    """Start a guest, and wait until it answers.

    :param whole: it has the machine's files as they are now, and dom0 must not write to those that it uses.
    :raises UserError: if it does not, with the last lines of its console.
    """
    # The backend of its interface.
    output("modprobe", "--all", "xen-gntalloc", "xen-netback")
    _bridge()
    environment, disk = f"ADDRESS={guest.address}/24", ""
    if whole:
        environment, disk = f"{environment} WHOLE={WHOLE}", _disks()
    config = MADE / f"{guest.name}.cfg"
    config.write_text(
        f"""name = "{guest.name}"
kernel = "/boot/vmlinuz-{os.uname().release}"
ramdisk = "{_ramdisk(whole)}"
extra = "console=hvc0 quiet panic=-1 {environment}"
disk = [{disk}]
memory = {memory_mb}
vcpus = 1
vif = ["mac={guest.mac},bridge={BRIDGE},vifname={guest.device},script=vif-bridge"]
on_crash = "destroy"
"""
    )
    output("xl", "create", str(config))
    # An entry that is learned is lost while the guest does not answer, and with it the traffic.
    output("ip", "neigh", "replace", guest.address, "lladdr", guest.mac, "dev", BRIDGE, "nud", "permanent")
    deadline = time.monotonic() + START_SECONDS
    while subprocess.run(["ping", "-c1", "-W1", guest.address], stdout=subprocess.DEVNULL).returncode:
        if time.monotonic() > deadline:
            raise UserError(f"{guest.name} was created, but did not answer within {START_SECONDS} s.")


def stop(guest: Guest) -> None:
    """End a guest at once."""
    xl("destroy", guest)
    deadline = time.monotonic() + START_SECONDS
    while Path("/sys/class/net", guest.device).exists():
        if time.monotonic() > deadline:
            raise UserError(f"{guest.device} is still there {START_SECONDS} s after its guest was ended.")
        time.sleep(0.1)


def running() -> list[tuple[Guest, int]]:
    """Return the guests that run, and the memory [MB] of each."""
    lines = output("xl", "list").splitlines()
    found = (re.match(r"guest(\d+)\s+\d+\s+(\d+) ", line) for line in lines)
    return [(Guest(int(match[1])), int(match[2])) for match in found if match]


@contextmanager
def away() -> Iterator[None]:
    """No guest runs in the block: a frontend does not come back to a backend that was unloaded under it."""
    there = running()
    for guest, _ in there:
        stop(guest)
    yield
    for guest, memory_mb in there:
        start(guest, memory_mb)


@contextmanager
def paused(guest: Guest) -> Iterator[None]:
    """The guest does not run in the block.

    By Xen's library: `xl pause` takes seconds to end in an emulated dom0, after the guest was paused.
    """
    number = int(xl("domid", guest))
    library = ctypes.CDLL(str(next(LIBRARIES.glob("libxenctrl.so.*"))))
    library.xc_interface_open.restype = ctypes.c_void_p
    xen = ctypes.c_void_p(library.xc_interface_open(None, None, 0))
    if not xen or library.xc_domain_pause(xen, number):
        raise UserError(f"{guest.name} could not be paused.")
    try:
        yield
    finally:
        if library.xc_domain_unpause(xen, number):
            raise UserError(f"{guest.name} could not go on.")
        library.xc_interface_close(xen)


def xl(command: str, guest: Guest) -> str:
    """Return what `xl COMMAND` says of a guest."""
    return output("xl", command, guest.name)


def tell(guest: Guest, command: str) -> None:
    """Has the guest's first process run a shell command, whose output is lost."""
    number = xl("domid", guest).strip()
    console = output("xenstore-read", f"/local/domain/{number}/console/tty").strip()
    Path(console).write_text(f"{command}\n")


@dataclass(frozen=True)
class Ring:
    """A guest's rx ring by netback's own account (debugfs).

    :param free: slots that netback may still use.
    :param queued: packets that wait for slots, in netback's queue.
    :param stopped: whether the device's queue is.
    """

    free: int
    queued: int
    stopped: bool


def ring(device: str) -> Ring:
    """The ring of a guest's only queue, now."""
    return read_ring((DEBUG / device / "io_ring_q0").read_text())


def read_ring(text: str) -> Ring:
    """Read io_ring_q0 (xenvif_read_io_ring in drivers/net/xen-netback/xenbus.c)."""
    _, _, rx = text.partition("RX: ")
    slots = re.search(r"req prod (\d+) \(-?\d+\) cons (\d+) ", rx)
    queue = re.search(r"Rx internal queue: len \d+ max \d+ pkts (\d+) (stopped|running)", rx)
    if not slots or not queue:
        raise UserError("this kernel's io_ring_q0 is of another form.")
    return Ring((int(slots[1]) - int(slots[2])) % (1 << 32), int(queue[1]), queue[2] == "stopped")


def used_up(device: str, seconds: float) -> int | None:
    """Wait until packets wait in netback for slots that a guest does not post.

    :return: when they did [ns], CLOCK_MONOTONIC; None if they did not within so long.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        there = ring(device)
        if there.free < MOST_SLOTS and (there.queued or there.stopped):
            return time.monotonic_ns()
        time.sleep(0.02)
    return None


def log(device: str) -> list[str]:
    """Return what netback has said of a guest in the kernel's log: "stalled" and "ready", in turn."""
    return re.findall(rf"{device}: Guest Rx (stalled|ready)", output("dmesg"))


def _bridge() -> None:
    if Path("/sys/class/net", BRIDGE).exists():
        return
    output("ip", "link", "add", BRIDGE, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
    output("ip", "address", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
    output("ip", "link", "set", BRIDGE, "up")


def _disks() -> str:
    """Return the disks of a guest that is whole, for its configuration: the machine's, and one to swap to."""
    output("modprobe", "--all", "xen-blkback", "loop")
    swap = MADE / "swap"
    swap.touch(mode=0o600)
    output("fallocate", "--length", "512M", str(swap))
    output("mkswap", str(swap))
    # That writes the journal, too: whoever cannot write to a disk cannot play it.
    output("sh", "-c", "fsfreeze --freeze / && fsfreeze --unfreeze /")
    root = output("findmnt", "--noheadings", "--output", "SOURCE", "/").strip()
    # Xen does not take a disk of which something is mounted.
    files = output("losetup", "--find", "--show", "--read-only", root).strip()
    own = output("losetup", "--find", "--show", str(swap)).strip()
    return f'"phy:{files},xvda,r", "phy:{own},xvdb,w"'


def _ramdisk(whole: bool) -> Path:
    """Return a cpio archive of busybox, INIT, and the modules that a guest needs."""
    path = MADE / f"ramdisk{'-whole' if whole else ''}"
    if path.exists():
        return path
    tree = MADE / f"{path.name}-tree"
    for folder in ("bin", "dev", "proc", "sys", "tmp", "modules"):
        (tree / folder).mkdir(parents=True, exist_ok=True)
    (tree / "bin/busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (tree / "bin/busybox").chmod(0o755)
    for applet in APPLETS:
        (tree / "bin" / applet).unlink(missing_ok=True)
        (tree / "bin" / applet).symlink_to("busybox")
    (tree / "init").write_text(INIT.read_text())
    (tree / "init").chmod(0o755)
    needs = ("xen-netfront", *(("xen-blkfront", "crc32c_generic", "ext4", "overlay") if whole else ()))
    lines = [
        line
        for name in needs
        for line in output("modprobe", "--show-depends", "--ignore-install", name).splitlines()
    ]
    files = [line.split()[1] for line in lines if line.startswith("insmod ")]
    for order, source in enumerate(map(Path, dict.fromkeys(files))):
        (tree / "modules" / f"{order:02}-{source.name}").write_bytes(source.read_bytes())
    names = "\n".join(["dev", *(str(each.relative_to(tree)) for each in sorted(tree.rglob("*")))])
    archive = subprocess.run(
        ["cpio", "--quiet", "--create", "--format=newc"],
        cwd=tree,
        input=names.encode(),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    path.write_bytes(gzip.compress(archive, 1))
    return path
