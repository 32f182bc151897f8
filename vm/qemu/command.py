# SPDX-License-Identifier: GPL-2.0-only
"""The QEMU command of a machine."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from toolkit.errors import UserError
from vm.image.image import Image
from vm.machines import Machine, Nic, Xen
from vm.qemu import emulator
from vm.qemu.accel import Accel
from vm.qemu.files import UNIX_PATH_MAX, Files

VFIO_USER_TIMEOUT_MS = 60_000

# PCI slots are pinned: the guest finds its root disk and names its NICs by their order on the bus.
ROOT_SLOT, SWAP_SLOT, RNG_SLOT, MANAGEMENT_SLOT, FIRST_NIC_SLOT = 0x3, 0x4, 0x5, 0x6, 0x8

# By architecture, as Debian calls it: QEMU's machine, and its first serial console in Linux.
BOARDS = {"amd64": ("q35", "ttyS0"), "arm64": ("virt", "ttyAMA0")}

# With icount an instruction takes 2^shift ns: 250 million a second, about as many as an emulated CPU executes
# on a slow host.
_ACCELERATORS: dict[Accel, list[str]] = {
    "tcg": ["-accel", "tcg,thread=multi"],
    "kvm": ["-accel", "kvm"],
    "icount": ["-accel", "tcg,thread=single", "-icount", "shift=2"],
}

# Under software emulation the kernel's tests of its own ciphers take seconds.
_QUICK = ("cryptomgr.notests",)
# An emulated CPU has the host's TSC. A kernel does not trust it on this kind of CPU, and would read the HPET,
# an emulated device, each time that somebody wants the time.
_EMULATED = ("tsc=reliable", "clocksource=tsc")


def argv(
    machine: Machine,
    image: Image,
    files: Files,
    *,
    accel: Accel,
    port: int,
    key: str,
    taps: dict[int, list[int]],
    program: Sequence[str] = (),
    disk: Path | None = None,
) -> list[str]:
    """The whole command line of a machine.

    :param machine: what to run.
    :param image: its disk, kernel and initrd.
    :param files: its run directory.
    :param accel: how it is run (vm.qemu.accel).
    :param port: the port of 127.0.0.1 that leads to the machine's ssh.
    :param key: the public key that may log in.
    :param taps: by number of the NIC, for those with more than one queue: the tap's descriptors, one a queue.
    :param program: the words that start QEMU; by default the system's.
    :param disk: a layer over the image's disk (image.layer) that is written to; by default what is written is
        forgotten when QEMU ends.
    :return: the arguments, beginning with the program.
    """
    words = [
        *(program or [emulator.BINARY]),
        "-name",
        machine.name,
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
    ]
    board, _ = BOARDS[machine.architecture]
    words += ["-machine", f"{board},memory-backend=memory" if machine.shares_memory else board]
    words += ["-m", str(machine.memory_mb), "-smp", str(machine.cpus)]
    if machine.shares_memory:
        words += ["-object", f"memory-backend-memfd,id=memory,size={machine.memory_mb}M,share=on"]
    words += [*_ACCELERATORS[accel], "-cpu", cpu(machine, accel)]
    words += _boot(machine, image, accel)
    # QEMU may keep what the machine has not flushed, as the cache of a real disk does.
    kept = "cache=writeback" if disk else "snapshot=on"
    words += _disk("root", disk or image.disk, "qcow2", ROOT_SLOT, kept)
    if machine.swap:
        throttle = f"throttling.bps-total={machine.swap.bytes_per_second}"
        words += _disk("swap", files.swap, "raw", SWAP_SLOT, throttle)
    words += ["-object", "rng-random,id=entropy,filename=/dev/urandom"]
    words += ["-device", f"virtio-rng-pci,rng=entropy,addr={RNG_SLOT:#x}"]
    words += ["-netdev", f"user,id=management,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"]
    words += [
        "-device",
        # Without a boot ROM: nothing boots from it, and running it takes seconds under software emulation.
        f"{machine.management},netdev=management,addr={MANAGEMENT_SLOT:#x},mac=52:54:00:00:00:01,romfile=",
    ]
    for number, under_test in enumerate(machine.nics):
        place = {"addr": f"{FIRST_NIC_SLOT + number:#x}"}
        words += nic(number, under_test, files, place, taps.get(number, []))
    words += authorized_key(key)
    words += ["-chardev", f"file,id=console,path={_escape(str(files.console))}", "-serial", "chardev:console"]
    words += ["-qmp", f"unix:{_escape(str(files.qmp))},server=on,wait=off", "-pidfile", str(files.pid)]
    return words


def authorized_key(key: str) -> list[str]:
    """Return QEMU's arguments that hand a public key to a machine, for its ssh."""
    return ["-fw_cfg", f"name=opt/rx-stall/authorized_keys,string={_escape(key)}"]


def mac(number: int) -> str:
    """The Ethernet address of a NIC under test, by its number."""
    return f"52:54:00:00:01:{number + 1:02x}"


def kernel_command_line(machine: Machine, more: Sequence[str] = ()) -> str:
    """What the machine's kernel is given: the fixed part, `more`, then the machine's own."""
    _, console = BOARDS[machine.architecture]
    if machine.xen:
        console = "hvc0"
    fixed = ["root=/dev/vda", "rw", f"console={console}", "net.ifnames=0", *_QUICK]
    return " ".join([*fixed, *more, *machine.cmdline])


def xen_command_line(xen: Xen) -> str:
    """What a hypervisor under the machine's kernel is given."""
    memory = f"{xen.dom0_mb}M"
    # An emulated dom0 of several CPUs crashes when probes are put on or off.
    return f"com1=115200,8n1 console=com1 dom0_mem={memory},max:{memory} dom0_max_vcpus=1"


def cpu(machine: Machine, accel: Accel) -> str:
    """Return QEMU's CPU for a machine."""
    if accel == "kvm":
        return "host"
    if machine.architecture == "arm64":
        # Signed pointers of a newer one cost an emulated CPU much.
        return "neoverse-n1"
    # Emulated: a kernel whose CPU says "fast rep stosb" clears and copies pages that way, and the emulator
    # does it byte by byte. Without the two features a page fault is five times as fast.
    emulated = "max,-erms,-fsrm"
    # With SMAP a PV dom0 faults on its way to user space; with AVX it loses vector registers.
    return f"{emulated},-smap,-avx,-avx2,-xsave" if machine.xen else emulated


def _boot(machine: Machine, image: Image, accel: Accel) -> list[str]:
    """Return what QEMU loads: the kernel, or a hypervisor whose first module it is (multiboot)."""
    emulated = accel != "kvm" and machine.xen is None and not machine.foreign
    line = kernel_command_line(machine, _EMULATED if emulated else ())
    if machine.xen is None:
        return ["-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", line]
    modules = f"{_escape(str(image.kernel))} {_escape(line)},{_escape(str(image.initrd))}"
    return ["-kernel", str(image.hypervisor), "-initrd", modules, "-append", xen_command_line(machine.xen)]


def _disk(name: str, path: Path, form: str, slot: int, more: str) -> list[str]:
    drive = f"file={_escape(str(path))},if=none,id={name},format={form},{more}"
    return ["-drive", drive, "-device", f"virtio-blk-pci,drive={name},serial={name},addr={slot:#x}"]


def nic(
    number: int, nic: Nic, files: Files, place: Mapping[str, str], descriptors: Sequence[int] = ()
) -> list[str]:
    """Return QEMU's arguments for a NIC under test.

    :param place: where it is on the bus, as options of the device.
    :param descriptors: of its tap, one a queue, if it has more than one queue.
    """
    name = f"nic{number}"
    if nic.ours:
        return ["-device", _vfio_user(number, files, place)]
    extra = []
    if nic.hub:
        backend = f"hubport,id={name},hubid={nic.hub}"
    elif nic.queues == 1:
        local, remote = files.nic(number), files.peer(number)
        _check_length(local, remote)
        backend = f"dgram,id={name},local.type=unix,local.path={_escape(str(local))}"
        backend += f",remote.type=unix,remote.path={_escape(str(remote))}"
    else:
        queues = f"fds={':'.join(map(str, descriptors))}" if descriptors else f"queues={nic.queues},script=no"
        backend = f"tap,id={name},{queues},vhost=off"
        extra = ["mq=on", f"vectors={2 * nic.queues + 2}"]
    device = [nic.model, f"netdev={name}", f"mac={mac(number)}", "romfile=", *extra]
    device += [f"{option}={value}" for option, value in {**place, **nic.options}.items()]
    return ["-netdev", backend, "-device", ",".join(device)]


def _vfio_user(number: int, files: Files, place: Mapping[str, str]) -> str:
    """Return the device that is a NIC of our own; only JSON can spell a socket."""
    path = files.device(number)
    _check_length(path, files.nic(number), files.peer(number), files.control(number))
    device = {
        "driver": "vfio-user-pci",
        "socket": {"type": "unix", "path": str(path)},
        # A busy host may keep the other side waiting, and QEMU gives a late device up for good.
        "x-msg-timeout": VFIO_USER_TIMEOUT_MS,
        **place,
    }
    return json.dumps(device)


def _check_length(*paths: Path) -> None:
    for path in paths:
        if len(str(path).encode()) > UNIX_PATH_MAX:
            raise UserError(
                f"{path} is too long for a unix socket: set XDG_CACHE_HOME to a shorter directory."
            )


def _escape(value: str) -> str:
    # In QEMU's option lists a comma is doubled.
    return value.replace(",", ",,")
