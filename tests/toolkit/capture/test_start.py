# SPDX-License-Identifier: GPL-2.0-only
import subprocess
import sys
from typing import Any

import pytest

from toolkit import drivers
from toolkit.capture import start
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


@pytest.mark.parametrize(
    ("names", "queues", "ifindexes"),
    [((), (), []), (("eth2",), (), [4]), (("eth2", "eth1"), (0,), [4, 3]), ((), (2,), [])],
)
def test_chosen_devices_are_those_named(
    names: tuple[str, ...], queues: tuple[int, ...], ifindexes: list[int]
) -> None:
    assert start.choose(DEVICES, Options([VIRTIO_NET], names, queues)) == ifindexes


@pytest.mark.parametrize(
    ("devices", "names", "queues", "sentence"),
    [
        (DEVICES, ("eth7",), (), "no device 'eth7' of virtio_net; there is: eth1, eth2."),
        ([], ("eth7",), (), "no device 'eth7' of virtio_net; there is: none."),
        (DEVICES, ("eth1",), (2,), "no queue 2 on eth1; there is: 0, 1."),
        (DEVICES, (), (9,), "no queue 9 on eth1, eth2; there is: 0, 1, 2."),
    ],
)
def test_unknown_device_or_queue_is_named(
    devices: list[dict[str, Any]], names: tuple[str, ...], queues: tuple[int, ...], sentence: str
) -> None:
    with pytest.raises(UserError) as error:
        start.choose(devices, Options([VIRTIO_NET], names, queues))
    assert str(error.value) == sentence


def test_queue_of_a_device_without_known_queues_is_accepted() -> None:
    unknown = {"ifindex": 5, "name": "eth3", "queues": []}
    assert start.choose([unknown], Options([VIRTIO_NET], ["eth3"], [77])) == [5]


def test_compiler_needs_no_arrays() -> None:
    """They are imported while it runs."""
    code = "import sys, toolkit.capture.start; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"numpy", "pyarrow", "pandas"} & set(modules.split())
