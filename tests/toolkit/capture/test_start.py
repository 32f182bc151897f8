# SPDX-License-Identifier: GPL-2.0-only
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from toolkit import drivers
from toolkit.capture import kernel, start
from toolkit.capture.maps import Chosen
from toolkit.capture.start import Options
from toolkit.errors import UserError

VIRTIO_NET = drivers.load("virtio_net")
DEVICES: list[dict[str, Any]] = [
    {
        "ifindex": 3,
        "name": "eth1",
        "driver": "virtio_net",
        "queues": [{"queue": 0, "size": 256}, {"queue": 1, "size": 256}],
    },
    {"ifindex": 4, "name": "eth2", "driver": "virtio_net", "queues": [{"queue": 2, "size": 512}]},
]


HERE, BLUE = kernel.netns(), 4026532177


@pytest.mark.parametrize(
    ("names", "queues", "chosen"),
    [
        ((), (), []),
        (("eth2",), (), [Chosen(HERE, "eth2")]),
        (("eth2", "eth1"), (0,), [Chosen(HERE, "eth2"), Chosen(HERE, "eth1")]),
        ((), (2,), []),
        (("blue/eth2", "eth1"), (7,), [Chosen(BLUE, "eth2"), Chosen(HERE, "eth1")]),
    ],
)
def test_chosen_devices_are_those_named(
    names: tuple[str, ...],
    queues: tuple[int, ...],
    chosen: list[Chosen],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernel, "namespaces", lambda: {"blue": BLUE})
    assert start.choose(DEVICES, Options([VIRTIO_NET], names, queues)) == chosen


@pytest.mark.parametrize(
    ("devices", "names", "queues", "sentence"),
    [
        (DEVICES, ("eth7",), (), "no device 'eth7' of virtio_net; there is: eth1, eth2."),
        ([], ("eth7",), (), "no device 'eth7' of virtio_net; there is: none."),
        (DEVICES, ("eth1",), (2,), "no queue 2 on eth1; there is: 0, 1."),
        (DEVICES, ("red/eth1",), (), "no network namespace 'red'; there is: none with a name."),
        (DEVICES, (), (9,), "no queue 9 on eth1, eth2; there is: 0, 1, 2."),
    ],
)
def test_what_is_not_there_is_named(
    devices: list[dict[str, Any]],
    names: tuple[str, ...],
    queues: tuple[int, ...],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernel, "namespaces", dict)
    with pytest.raises(UserError) as error:
        start.choose(devices, Options([VIRTIO_NET], names, queues))
    assert str(error.value) == sentence


def test_queue_of_a_device_without_known_queues_is_accepted() -> None:
    unknown = {"ifindex": 5, "name": "eth3", "driver": "virtio_net", "queues": []}
    assert start.choose([unknown], Options([VIRTIO_NET], ["eth3"], [77])) == [Chosen(HERE, "eth3")]


def test_compiler_needs_no_arrays() -> None:
    """They are imported while it runs."""
    code = "import sys, toolkit.capture.start; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"numpy", "pyarrow", "pandas"} & set(modules.split())


@pytest.mark.parametrize(
    ("memory_mib", "asked", "ring_mib"),
    [
        (512, None, 8),
        (970, None, 8),
        (4000, None, 16),
        (25_000, None, 128),
        (2_000_000, None, 128),
        (4000, 1, 1),
        (4000, 64, 64),
        (4000, 65, 128),
    ],
)
def test_ring_is_sized_for_the_machine(
    memory_mib: int, asked: int | None, ring_mib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = {"SC_PHYS_PAGES": memory_mib << 8, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    assert start.ring_bytes(asked) == ring_mib << 20


def test_without_a_nic_there_is_nothing_to_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODULES", "NET", "BUSES"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(kernel, name, tmp_path / name)
    with pytest.raises(UserError, match=r"^no NIC is up, and no module is loaded"):
        start.drivers_to_trace([], [])


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with four drivers: eth0 is of one that nobody knows and up, eth1 and eth2 are qlge's, eth3 is
    igb's, whose ring is declared, and up; virtio_net has no NIC."""
    monkeypatch.setattr(kernel, "MODULES", tmp_path)
    monkeypatch.setattr(kernel, "BUSES", tmp_path / "bus")
    monkeypatch.setattr(kernel, "NET", tmp_path / "net")
    for module in ("e1001", "qlge", "virtio_net", "igb"):
        (tmp_path / module).mkdir()
    names = (("eth0", "e1001"), ("eth1", "qlge"), ("eth2", "qlge"), ("eth3", "igb"))
    for number, (name, module) in enumerate(names, 2):
        device = tmp_path / "net" / name / "device"
        device.mkdir(parents=True)
        driver = tmp_path / "drivers" / module
        driver.mkdir(parents=True, exist_ok=True)
        if not (driver / "module").exists():
            (driver / "module").symlink_to(tmp_path / module)
        (device / "driver").symlink_to(driver)
        (device.parent / "ifindex").write_text(f"{number}\n")
        (device.parent / "flags").write_text(f"{0x1003 if name in ('eth0', 'eth3') else 0x1002:#x}\n")


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("names", "devices", "traced"),
    [
        ([], [], ["igb", "qlge", "virtio_net", "generic"]),
        ([], ["eth3"], ["igb"]),
        ([], ["eth3", "eth0"], ["igb", "generic"]),
        (["generic"], ["eth3"], ["generic"]),
        ([], ["eth1"], ["qlge"]),
        ([], ["eth0"], ["generic"]),
        ([], ["eth0", "eth1"], ["qlge", "generic"]),
        ([], ["blue/eth1"], ["qlge", "virtio_net"]),
        (["aoe", "aoe"], ["eth1"], ["aoe"]),
    ],
)
def test_drivers_are_those_named_or_of_the_devices_or_all_that_are_loaded(
    names: list[str], devices: list[str], traced: list[str]
) -> None:
    assert [driver.name for driver in start.drivers_to_trace(names, devices)] == traced


@pytest.mark.usefixtures("machine")
def test_a_driver_that_is_built_in_is_traced_as_one_that_is_loaded() -> None:
    """Sysfs has neither a module of the driver nor parameters, but the driver and its device."""
    driver = kernel.BUSES / "virtio/drivers/virtio_net"
    driver.mkdir(parents=True)
    (kernel.MODULES / "virtio_net").rmdir()
    device = kernel.NET / "eth4" / "device"
    device.mkdir(parents=True)
    (device / "driver").symlink_to(driver)
    (device.parent / "ifindex").write_text("6\n")
    (device.parent / "flags").write_text("0x1003\n")
    assert [each.name for each in start.drivers_to_trace([], ["eth4"])] == ["virtio_net"]
    every = start.drivers_to_trace([], [])
    assert [each.name for each in every] == ["igb", "qlge", "virtio_net", "generic"]
    found = {device["name"]: device["driver"] for device in start.devices_of(Options(every))}
    assert found["eth4"] == "virtio_net"


@pytest.mark.usefixtures("machine")
def test_a_device_that_is_not_there_is_said_with_those_that_are() -> None:
    with pytest.raises(UserError) as error:
        start.drivers_to_trace([], ["eth9"])
    assert str(error.value) == "there is no NIC 'eth9'; there is: eth0, eth1, eth2, eth3."


@pytest.mark.usefixtures("machine")
def test_each_device_is_traced_once_and_by_its_own_probes_first() -> None:
    both = start.drivers_to_trace(["generic", "qlge"], [])
    assert [driver.name for driver in both] == ["qlge", "generic"]
    found = start.devices_of(Options(both, ["eth1", "eth0"]))
    assert [(device["name"], device["driver"]) for device in found] == [
        ("eth1", "qlge"),
        ("eth2", "qlge"),
        ("eth0", "generic"),
    ]
    chosen = start.choose(found, Options(both, ["eth1", "eth0"]))
    assert chosen == [Chosen(HERE, "eth1"), Chosen(HERE, "eth0", by_polls=1)]


@pytest.mark.usefixtures("machine")
def test_probes_for_any_driver_take_only_what_is_up() -> None:
    """eth0 is up, and eth1 has probes of its own. What is traced by its polls has its driver's number."""
    options = Options(start.drivers_to_trace([], []))
    chosen = start.choose(start.devices_of(options), options)
    assert chosen == [
        Chosen(HERE, "eth3", by_polls=0),
        Chosen(HERE, "eth1"),
        Chosen(HERE, "eth2"),
        Chosen(HERE, "eth0", by_polls=3),
    ]


@pytest.mark.usefixtures("machine")
def test_a_declared_driver_whose_nics_are_down_is_left_out() -> None:
    (kernel.NET / "eth3" / "flags").write_text("0x1002\n")
    assert [driver.name for driver in start.drivers_to_trace([], [])] == ["qlge", "virtio_net", "generic"]


@pytest.mark.usefixtures("machine")
def test_nics_that_come_up_later_are_not_traced() -> None:
    """But those whose driver has probes of its own: these see each of its devices."""
    options = Options(start.drivers_to_trace([], []))
    traced = [device["name"] for device in start.devices_of(options)]
    for name in ("eth0", "eth3"):
        (kernel.NET / name / "flags").write_text("0x1002\n")
    fewer = Options(start.drivers_to_trace([], []))
    assert start.untraced(options, traced) == set()
    for name in ("eth0", "eth1", "eth3"):
        (kernel.NET / name / "flags").write_text("0x1003\n")
    assert start.untraced(options, traced) == set()
    left = [device["name"] for device in start.devices_of(fewer) if device["name"] in ("eth1", "eth2")]
    assert start.untraced(fewer, left) == {"eth0", "eth3"}
