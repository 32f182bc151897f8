# SPDX-License-Identifier: GPL-2.0-only
"""One trace without a kernel: the ring, the ledger and the queues' map are files in memory."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.toolkit.capture.drained import VIRTIO_NET, Kept, Machine
from tests.toolkit.capture.ring_memory import numbered
from tests.toolkit.capture.test_start import DEVICES
from toolkit import drivers
from toolkit.capture import kernel, loader, maps, program, session, start
from toolkit.capture.compiled import Compiled
from toolkit.capture.drain import Progress
from toolkit.capture.kernel import Functions
from toolkit.capture.loader import Loaded
from toolkit.capture.program import Attached
from toolkit.capture.start import Options
from toolkit.driver import Hook
from toolkit.errors import UserError
from toolkit.trace.schema import EVENT


class Table(dict[int, int]):
    """A map of the program, as bcc shows it."""

    Key = Leaf = int


def test_layout_of_the_compiler_must_be_that_of_the_reader() -> None:
    session._check_layout({"layout": SimpleNamespace(Leaf=EVENT)})
    with pytest.raises(UserError, match="disagree on the layout"):
        session._check_layout({"layout": SimpleNamespace(Leaf=np.dtype([("ts", "<u8")]))})


def test_meta_says_what_was_attached_and_what_was_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "gfp_flags", lambda: {"__GFP_HIGH": 0x20})
    monkeypatch.setattr(program, "regime", lambda driver, present, _: f"{driver.name}: {sorted(present)}")
    own = VIRTIO_NET.hooks[0]
    core = Hook("rxt_core", ("kprobe:a", "kprobe:b"), False, "the core")
    other = drivers.load("qlge").hooks[0]
    attached = [
        Attached(core, "kprobe:b"),
        Attached(own, None, "no such function"),
        Attached(other, other.at[0]),
    ]
    options = Options([VIRTIO_NET], ["eth1"], [0], full=True)
    found = session._meta(
        options, [{"module": "virtio_net", "variant": "stock"}], DEVICES, attached, Functions(b"")
    )
    assert found["options"] == {"detail": "full", "devices": ["eth1"], "queues": [0]}
    assert (found["host"], found["kernel"]) == (os.uname().nodename, os.uname().release)
    (driver,) = found["drivers"]
    assert (driver["name"], driver["variant"], driver["regime"]) == (
        "virtio_net",
        "stock",
        "virtio_net: ['rxt_core']",
    )
    assert [(hook["program"], hook["attached"], hook["why"]) for hook in driver["hooks"]] == [
        ("rxt_core", "kprobe:b", ""),
        (own.program, None, "no such function"),
    ]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Modules that are loaded, by name."""
    modules = {"virtio_net": 7}
    monkeypatch.setattr(kernel, "module_identity", modules.get)
    return modules


def _wait(*, duration: float | None = None, stop: threading.Event | None = None, failed: bool = False) -> str:
    """Return the reason for which a trace ended, once it was shown."""
    progress = Progress()
    shown: list[Progress] = []
    drain: Any = SimpleNamespace(failed=OSError() if failed else None)
    options = Options([VIRTIO_NET], duration=duration)
    session._wait(
        options, [7], stop or threading.Event(), drain, progress, shown.append, session.SHOW_INTERVAL
    )
    assert not shown or shown == [progress]
    return progress.reason


@pytest.mark.usefixtures("loaded")
def test_trace_ends_when_its_time_is_over() -> None:
    began = time.monotonic()
    assert _wait(duration=0.15) == "duration"
    assert 0.15 <= time.monotonic() - began < 5


@pytest.mark.usefixtures("loaded")
def test_trace_ends_when_it_is_stopped() -> None:
    stop = threading.Event()
    threading.Timer(0.05, stop.set).start()
    assert _wait(stop=stop) == "interrupt"


@pytest.mark.usefixtures("loaded")
def test_trace_ends_when_nothing_can_be_written() -> None:
    assert _wait(failed=True) == "write failed"


@pytest.mark.parametrize("then", [{}, {"virtio_net": 8}], ids=["unloaded", "another one"])
def test_trace_ends_with_its_module(loaded: dict[str, int], then: dict[str, int]) -> None:
    loaded.clear()
    loaded.update(then)
    assert _wait() == "module unloaded"


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """What signals did before is given back."""
    numbers = (*session._ENDING, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_stop_the_trace_and_nothing_else(number: signal.Signals) -> None:
    asked: SimpleQueue[bool] = SimpleQueue()
    with session._signals(asked) as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.wait(5)
    os.kill(os.getpid(), number)
    assert asked.empty()


def test_sigusr1_stops_nothing() -> None:
    asked: SimpleQueue[bool] = SimpleQueue()
    with session._signals(asked) as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert asked.get(timeout=5)
        assert not stop.is_set()


@pytest.fixture
def rehearsal(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A kernel that has everything; gives the steps of a trace in their order."""
    steps: list[str] = []
    tables: Any = {"events": machine.ring, "ledger": machine.ledger, "queues": machine.queues}
    tables |= {"layout": SimpleNamespace(Leaf=EVENT), "poll_functions": Table()}
    compiled = Compiled("the kernel's BTF", "GPL", [], {})
    step = steps.append
    for name, value in {
        "require_root": lambda: None,
        "require_open": lambda: None,
        "module_facts": lambda module: {"module": module, "variant": "stock"},
        "devices": lambda *_: DEVICES,
        "gfp_flags": dict,
    }.items():
        monkeypatch.setattr(kernel, name, value)
    for name, value in {
        "defines": lambda *_, **__: {},
        "compile_program": lambda *_: step("compile") or compiled,
        "attach": lambda _, hooks, *__, **___: (
            step("attach") or [Attached(hook, hook.at[0]) for hook in hooks]
        ),
        "regime": lambda *_: "none",
        "misses": lambda _: {"poll_in": 3},
    }.items():
        monkeypatch.setattr(program, name, value)
    for name, value in {
        "load": lambda compiled, entries: step(f"load {sorted(entries)}") or Loaded(compiled, tables),
        "detach": lambda _: step("detach"),
    }.items():
        monkeypatch.setattr(loader, name, value)
    for name, value in {
        "set_filters": lambda _, chosen, queues: step(f"filter {[each.name for each in chosen]} {queues}"),
        "arm": lambda _, on: step(f"arm {on}"),
    }.items():
        monkeypatch.setattr(maps, name, value)
    # Locked memory would stay with the process that runs the tests.
    monkeypatch.setattr(session, "_survive", lambda: step("survive"))
    monkeypatch.setattr(kernel, "module_identity", lambda _: 7)
    return steps


def test_probes_are_armed_only_while_all_are_attached(machine: Machine, rehearsal: list[str]) -> None:
    sink = Kept()

    def open_sink(meta: dict[str, Any]) -> Kept:
        rehearsal.append(f"open {meta['drivers'][0]['name']}")
        return sink

    machine.ring.send(numbered(3))
    progress = session.run(
        start.begin(Options([VIRTIO_NET], ["eth2"], [2], duration=0)),
        open_sink,
        lambda _: None,
        lambda _: None,
        lambda progress: rehearsal.append(f"ready, {len(progress.missing)} missing"),
    )
    assert rehearsal == [
        "compile",
        "load ['events']",
        "filter ['eth2'] [2]",
        "attach",
        "open virtio_net",
        "survive",
        "arm True",
        "ready, 0 missing",
        "arm False",
        "detach",
    ]
    assert (progress.reason, progress.events) == ("duration", 3)
    assert sink.moments == [0, 1, 2]
    assert sink.end["end"] == {"reason": "duration", "missed": {}}


@pytest.mark.parametrize(
    ("duration", "command", "reason", "status"),
    [(None, "exit 5", "command", 5), (0, "sleep 600", "duration", 128 + signal.SIGTERM)],
)
def test_trace_and_its_command_end_together(
    rehearsal: list[str], duration: float | None, command: str, reason: str, status: int
) -> None:
    options = Options([VIRTIO_NET], duration=duration, command=["sh", "-c", command])
    sink = Kept()
    progress = session.run(
        start.begin(options),
        lambda _: sink,
        lambda _: None,
        lambda _: None,
        lambda _: rehearsal.append("ready"),
    )
    assert (progress.reason, progress.status) == (reason, status)
    assert sink.end["end"] == {"reason": reason, "missed": {}}
    assert rehearsal[-4:] == ["arm True", "ready", "arm False", "detach"]


def test_command_is_looked_for_before_the_probes_are_compiled(rehearsal: list[str]) -> None:
    with pytest.raises(UserError, match="there is no program 'nothing'"):
        start.begin(Options([VIRTIO_NET], command=["nothing"]))
    assert rehearsal == []


def test_probes_come_off_when_a_display_fails(rehearsal: list[str]) -> None:
    def fail(_: Progress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        session.run(
            start.begin(Options([VIRTIO_NET])), lambda _: Kept(), lambda _: None, lambda _: None, fail
        )
    assert rehearsal[-2:] == ["arm False", "detach"]
