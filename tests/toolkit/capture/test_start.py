# SPDX-License-Identifier: GPL-2.0-only
import subprocess
import sys
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
