# SPDX-License-Identifier: GPL-2.0-only
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from toolkit import drivers
from toolkit.capture import kernel, start
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
        (("eth2",), (), [(HERE, "eth2")]),
        (("eth2", "eth1"), (0,), [(HERE, "eth2"), (HERE, "eth1")]),
        ((), (2,), []),
        (("blue/eth2", "eth1"), (7,), [(BLUE, "eth2"), (HERE, "eth1")]),
    ],
)
def test_chosen_devices_are_those_named(
    names: tuple[str, ...],
    queues: tuple[int, ...],
    chosen: list[tuple[int, str]],
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
    unknown = {"ifindex": 5, "name": "eth3", "queues": []}
    assert start.choose([unknown], Options([VIRTIO_NET], ["eth3"], [77])) == [(HERE, "eth3")]


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


def test_without_a_loaded_driver_the_modules_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "MODULES", tmp_path)
    with pytest.raises(UserError) as error:
        start.drivers_to_trace([], [])
    assert str(error.value) == "none of these modules is loaded: aoe, qlge, virtio_net, xen_netback."


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with three drivers, of which two are known: eth0 is e1000e's, eth1 and eth2 are qlge's."""
    monkeypatch.setattr(kernel, "MODULES", tmp_path)
    monkeypatch.setattr(kernel, "NET", tmp_path / "net")
    for module in ("e1000e", "qlge", "virtio_net"):
        (tmp_path / module).mkdir()
    for name, module in (("eth0", "e1000e"), ("eth1", "qlge"), ("eth2", "qlge")):
        device = tmp_path / "net" / name / "device"
        device.mkdir(parents=True)
        driver = tmp_path / "drivers" / module
        driver.mkdir(parents=True, exist_ok=True)
        if not (driver / "module").exists():
            (driver / "module").symlink_to(tmp_path / module)
        (device / "driver").symlink_to(driver)
        (device.parent / "ifindex").write_text("3\n")


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("names", "devices", "traced"),
    [
        ([], [], ["qlge", "virtio_net"]),
        ([], ["eth1"], ["qlge"]),
        ([], ["blue/eth1"], ["qlge", "virtio_net"]),
        (["aoe", "aoe"], ["eth1"], ["aoe"]),
    ],
)
def test_drivers_are_those_named_or_of_the_devices_or_all_that_are_loaded(
    names: list[str], devices: list[str], traced: list[str]
) -> None:
    assert [driver.name for driver in start.drivers_to_trace(names, devices)] == traced


@pytest.mark.usefixtures("machine")
def test_a_device_of_a_driver_that_is_not_known_is_said_to_be_its() -> None:
    with pytest.raises(UserError) as error:
        start.drivers_to_trace([], ["eth0"])
    assert str(error.value) == (
        "eth0 is a device of e1000e, and only these drivers can be traced: "
        "aoe, qlge, virtio_net, xen_netback."
    )
    with pytest.raises(UserError, match=r"^there is no driver of eth9, and only"):
        start.drivers_to_trace([], ["eth9"])
