# SPDX-License-Identifier: GPL-2.0-only
import itertools
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from toolkit.errors import UserError
from vm.image.image import Image
from vm.machines import Machine, Nic, Swap, Xen
from vm.qemu import command, emulator
from vm.qemu.accel import Accel
from vm.qemu.files import Files

MACHINE = Machine(
    name="m",
    description="",
    driver="virtio_net",
    release="bookworm",
    memory_mb=1024,
    cpus=2,
    management="e1000e",
    nics=(Nic("virtio-net-pci"),),
    cmdline=("panic=-1",),
)
IMAGE = Image("key", *(Path("/c", name) for name in ("root.qcow2", "vmlinux", "initrd", "tools.tar")))
FILES = Files(Path("/run/m"))


def argv(
    machine: Machine = MACHINE,
    files: Files = FILES,
    accel: Accel = "tcg",
    taps: dict[int, list[int]] | None = None,
) -> list[str]:
    return command.argv(
        machine, IMAGE, files, accel=accel, port=2222, key="ssh-ed25519 AA x", taps=taps or {}
    )


def values(words: list[str], option: str) -> list[str]:
    return [after for before, after in itertools.pairwise(words) if before == option]


def test_the_same_machine_is_the_same_command() -> None:
    assert argv() == argv()
    assert argv() != argv(replace(MACHINE, memory_mb=2048))


def test_only_an_emulated_kernel_is_told_to_trust_the_tsc() -> None:
    (emulated,), (real,) = values(argv(), "-append"), values(argv(accel="kvm"), "-append")
    assert "clocksource=tsc" in emulated and "tsc" not in real
    assert "erms" not in real and values(argv(), "-cpu") == ["max,-erms,-fsrm"]


def test_a_clock_that_counts_instructions_is_of_one_thread_of_the_emulator() -> None:
    words = argv(accel="icount")
    assert values(words, "-accel") == ["tcg,thread=single"] and values(words, "-icount") == ["shift=2"]
    assert values(words, "-append") == values(argv(), "-append")


def test_board_cpu_and_console_are_those_of_the_architecture() -> None:
    words = argv(replace(MACHINE, architecture="arm64"))
    assert (values(words, "-machine"), values(words, "-cpu")) == (["virt"], ["neoverse-n1"])
    (line,) = values(words, "-append")
    assert "console=ttyAMA0" in line and "tsc" not in line
    assert values(argv(), "-machine") == ["q35"]


def test_the_image_stays_clean() -> None:
    (root,) = values(argv(), "-drive")
    assert "file=/c/root.qcow2" in root
    assert "snapshot=on" in root


def test_a_layer_over_the_image_is_written_to() -> None:
    words = command.argv(
        MACHINE, IMAGE, FILES, accel="tcg", port=2222, key="", taps={}, disk=Path("/d/own.qcow2")
    )
    (root,) = values(words, "-drive")
    assert "file=/d/own.qcow2" in root and "cache=writeback" in root
    assert "snapshot" not in root


def test_swap_is_as_slow_as_said() -> None:
    drives = values(argv(replace(MACHINE, swap=Swap(4, 4096))), "-drive")
    assert drives[1].endswith("throttling.bps-total=4096")
    assert any(
        "serial=swap" in device for device in values(argv(replace(MACHINE, swap=Swap(1, 1))), "-device")
    )


def test_the_machine_reaches_nothing_but_our_port() -> None:
    (management,) = [backend for backend in values(argv(), "-netdev") if backend.startswith("user,")]
    assert "restrict=on" in management
    assert "hostfwd=tcp:127.0.0.1:2222-:22" in management


def test_nics_of_one_number_are_on_one_hub_and_have_no_wire() -> None:
    nics = (Nic("virtio-net-pci", hub=1), Nic("virtio-net-pci", hub=1), Nic("virtio-net-pci"))
    backends = [each for each in values(argv(replace(MACHINE, nics=nics)), "-netdev") if "nic" in each]
    assert backends[:2] == ["hubport,id=nic0,hubid=1", "hubport,id=nic1,hubid=1"]
    assert backends[2].startswith("dgram,id=nic2,")


def test_a_hypervisor_has_the_kernel_as_its_first_module() -> None:
    image = replace(IMAGE, hypervisor=Path("/c/xen"))
    machine = replace(MACHINE, xen=Xen(512))
    words = command.argv(machine, image, FILES, accel="tcg", port=1, key="k", taps={})
    assert values(words, "-kernel") == ["/c/xen"]
    (modules,) = values(words, "-initrd")
    kernel, initrd = modules.split(",")
    assert kernel.startswith("/c/vmlinux root=/dev/vda ")
    assert "console=hvc0" in kernel and "ttyS0" not in modules
    assert initrd == "/c/initrd"
    (xen,) = values(words, "-append")
    assert "dom0_mem=512M" in xen and "dom0_max_vcpus=1" in xen
    assert "-smap" in values(words, "-cpu")[0]


def test_nics_follow_the_management_nic_on_the_bus() -> None:
    words = argv(replace(MACHINE, nics=(Nic("virtio-net-pci"), Nic("virtio-net-pci"))))
    slots = [
        int(field.removeprefix("addr="), 16)
        for device in values(words, "-device")
        if "mac=" in device
        for field in device.split(",")
        if field.startswith("addr=")
    ]
    assert len(slots) == 3
    assert slots == sorted(set(slots))
    macs = [device for device in values(words, "-device") if f"mac={command.mac(1)}" in device]
    assert len(macs) == 1
    assert "netdev=nic1" in macs[0]


def test_options_reach_the_device() -> None:
    nic = Nic("virtio-net-pci", options={"mrg_rxbuf": "off"})
    assert values(argv(replace(MACHINE, nics=(nic,))), "-device")[-1].endswith(",mrg_rxbuf=off")


def test_a_nic_of_ours_is_a_socket_and_reaches_the_machines_memory() -> None:
    words = argv(replace(MACHINE, nics=(Nic("virtio-net-pci"), Nic("qlge"))))
    device = json.loads(values(words, "-device")[-1])
    assert device["driver"] == "vfio-user-pci"
    assert device["socket"] == {"type": "unix", "path": "/run/m/device1"}
    assert int(device["addr"], 16) == command.FIRST_NIC_SLOT + 1
    (machine,) = values(words, "-machine")
    name = machine.partition("memory-backend=")[2]
    (memory,) = [each for each in values(words, "-object") if "memory" in each]
    assert f"id={name},size=1024M,share=on" in memory
    assert "memory-backend" not in " ".join(argv())


def test_the_emulators_words_come_first() -> None:
    words = command.argv(
        MACHINE, IMAGE, FILES, accel="tcg", port=1, key="k", taps={}, program=["env", "A=b", "/other/qemu"]
    )
    assert words[:3] == ["env", "A=b", "/other/qemu"]
    assert emulator.BINARY not in words


def test_queues_take_the_taps_descriptors() -> None:
    words = argv(replace(MACHINE, nics=(Nic("virtio-net-pci", queues=2),)), taps={0: [7, 9]})
    assert "tap,id=nic0,fds=7:9,vhost=off" in values(words, "-netdev")
    assert "mq=on" in values(words, "-device")[-1]


def test_accelerator_is_a_word_of_the_command() -> None:
    assert values(argv(), "-accel") == ["tcg,thread=multi"]
    assert values(argv(accel="kvm"), "-accel") == ["kvm"]
    assert values(argv(accel="kvm"), "-cpu") == ["host"]


def test_the_kernel_gets_the_machines_own_words_last() -> None:
    (line,) = values(argv(), "-append")
    assert line.startswith("root=")
    assert line.endswith(" panic=-1")


def test_commas_are_doubled() -> None:
    words = argv(files=Files(Path("/run/a,b")))
    assert any("path=/run/a,,b/console.log" in word for word in words)
    assert "-pidfile" in words
    assert "/run/a,b/pid" in words


def test_a_path_too_long_for_a_socket_is_said_before_qemu_fails() -> None:
    with pytest.raises(UserError, match="too long for a unix socket"):
        argv(files=Files(Path("/run") / ("x" * 110)))


@pytest.mark.skipif(shutil.which(emulator.BINARY) is None, reason="QEMU is not installed")
def test_qemu_takes_the_arguments(tmp_path: Path) -> None:
    for name in ("root.qcow2", "vmlinux", "initrd"):
        (tmp_path / name).touch()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "root.qcow2", "1M"], check=True)
    shutil.copy("/bin/true", tmp_path / "vmlinux")
    names = ("root.qcow2", "vmlinux", "initrd", "tools.tar")
    image = Image("key", *(tmp_path / name for name in names))
    files = Files(tmp_path)
    with files.swap.open("wb") as swap:
        swap.truncate(1 << 20)
    machine = replace(MACHINE, swap=Swap(1, 4096), memory_mb=64, nics=(Nic("virtio-net-pci"),) * 2)
    words = command.argv(machine, image, files, accel="tcg", port=0, key="k", taps={})
    # Devices are made before the kernel is read: a file that is none ends QEMU right after.
    words[words.index("-kernel") : words.index("-kernel") + 6] = []
    with subprocess.Popen([*words, "-S", "-qmp", "stdio"], stdin=-1, stdout=-1, stderr=-1) as process:
        said, complained = process.communicate(
            b'{"execute":"qmp_capabilities"}{"execute":"query-pci"}{"execute":"quit"}', timeout=60
        )
    assert process.returncode == 0, complained.decode()
    replies = [json.loads(line) for line in said.splitlines()]
    (bus,) = next(reply["return"] for reply in replies if isinstance(reply.get("return"), list))
    network = [device["slot"] for device in bus["devices"] if device["class_info"]["class"] == 0x200]
    assert network == [command.MANAGEMENT_SLOT, command.FIRST_NIC_SLOT, command.FIRST_NIC_SLOT + 1]
