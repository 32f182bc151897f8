# SPDX-License-Identifier: GPL-2.0-only
import json
import platform
from pathlib import Path
from typing import Any

import pytest

from vm import machines
from vm.vagrant import machine


@pytest.fixture(autouse=True)
def _nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("RXSTALL_BOX", raising=False)
    monkeypatch.delenv("RXSTALL_ACCEL", raising=False)


def describe(name: str, home: Path) -> dict[str, Any]:
    """Return what the Vagrantfile reads of a machine: what is left of it in JSON."""
    found: dict[str, Any] = json.loads(json.dumps(machine.describe(machines.find(name), home, "ssh-rsa AA")))
    return found


def add_box(home: Path, name: str) -> None:
    (home / "boxes" / name.replace("/", "-VAGRANTSLASH-")).mkdir(parents=True)


def test_box_of_ours_is_taken_where_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = describe("virtio-net", tmp_path)
    assert (found["box"], found["own_box"]) == ("debian/bookworm64", False)
    assert "ssh-rsa AA" not in " ".join(found["argv"])
    add_box(tmp_path, "rx-stall/bookworm")
    found = describe("virtio-net", tmp_path)
    assert (found["box"], found["own_box"]) == ("rx-stall/bookworm", True)
    assert found["argv"][-1].endswith("string=ssh-rsa AA")
    monkeypatch.setenv("RXSTALL_BOX", "generic/debian12")
    found = describe("virtio-net", tmp_path)
    assert (found["box"], found["own_box"]) == ("generic/debian12", False)
    monkeypatch.setenv("RXSTALL_BOX", "rx-stall/trixie")
    assert describe("virtio-net", tmp_path)["own_box"]


@pytest.mark.parametrize(
    ("name", "box"), [("xen", "rx-stall/bookworm-xen"), ("aoe-backports", "rx-stall/trixie-backports")]
)
def test_machine_that_only_our_box_can_boot_says_so(
    name: str, box: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RXSTALL_BOX", "generic/debian12")
    found = describe(name, tmp_path)
    assert found["hindrance"] == f"it needs a box of its own (`python -m vm box {name}` makes it)"
    assert "argv" not in found
    add_box(tmp_path, box)
    found = describe(name, tmp_path)
    assert (found["hindrance"], found["box"]) == (None, box)


def test_another_architecture_is_left_to_python(tmp_path: Path) -> None:
    assert describe("virtio-net-arm64", tmp_path)["hindrance"] == "only `python -m vm` emulates arm64"


def test_kernel_that_is_compiled_here_is_left_to_python(tmp_path: Path) -> None:
    assert "only `python -m vm` compiles" in describe("virtio-net-builtin", tmp_path)["hindrance"]


def test_nic_with_a_tap_is_left_to_python(tmp_path: Path) -> None:
    assert "only `python -m vm` can make" in describe("virtio-net-mq", tmp_path)["hindrance"]


def test_nics_have_their_places_on_the_bus_and_their_wires(tmp_path: Path) -> None:
    found = describe("virtio-net-2nics", tmp_path)
    devices = [word for word in found["argv"] if word.startswith("virtio-net-pci,")]
    assert ["bus=pcie.0,addr=0x10" in devices[0], "bus=pcie.0,addr=0x11" in devices[1]] == [True, True]
    assert found["wires"] == {f"eth{n + 1}": f"{found['directory']}/nic{n}" for n in range(2)}
    assert describe("aoe", tmp_path)["wires"] == {}


def test_nic_of_ours_needs_a_newer_qemu_that_shares_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RXSTALL_ACCEL", "kvm")
    found = describe("qlge", tmp_path)
    assert found["shares_memory"] and found["emulator"] == f"{found['directory']}/qemu"
    device = json.loads(found["argv"][1])
    assert (device["bus"], device["socket"]["path"]) == ("pcie.0", f"{found['directory']}/device0")
    assert describe("virtio-net", tmp_path)["emulator"] is None


def test_kvm_counts_where_a_trial_boot_has_proven_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.accel() == "tcg"
    memory = tmp_path / "cache/rx-stall/accel.json"
    memory.write_text(json.dumps({"5.0.0-other qemu 10.1.0": "kvm"}))
    assert machine.accel() == "tcg"
    memory.write_text(json.dumps({f"{platform.release()} qemu 10.1.0": "kvm"}))
    assert machine.accel() == "kvm"
    monkeypatch.setenv("RXSTALL_ACCEL", "tcg")
    assert machine.accel() == "tcg"


def test_emulated_xen_host_has_a_cpu_that_it_survives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_box(tmp_path, "rx-stall/bookworm-xen")
    words = describe("xen", tmp_path)["argv"]
    assert "-smap" in words[words.index("-cpu") + 1]
    monkeypatch.setenv("RXSTALL_ACCEL", "kvm")
    assert "-cpu" not in describe("xen", tmp_path)["argv"]
