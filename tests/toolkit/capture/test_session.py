# SPDX-License-Identifier: GPL-2.0-only
"""One trace without a kernel: the ring, the ledger and the queues' map are files in memory."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import pytest

from tests.toolkit.capture.ring_memory import PAGE, RECORD, KernelRing, Ledger, Queues, numbered
from tests.toolkit.capture.test_start import DEVICES
from toolkit import drivers
from toolkit.capture import kernel, program, session, start
from toolkit.capture.program import Attached
from toolkit.capture.session import Progress
from toolkit.capture.start import Options
from toolkit.drivers import Hook
from toolkit.errors import UserError
from toolkit.event import FLAG, KIND
from toolkit.trace.schema import EVENT, Events

VIRTIO_NET = drivers.load("virtio_net")
CPUS = 4
KINDS = max(KIND.values()) + 1
RING_PAGES = 4


class Kept:
    """A sink that keeps copies of what it is given."""

    def __init__(self, before_each: Callable[[], object] = lambda: None) -> None:
        self.batches: list[Events] = []
        self.notes: list[Mapping[str, Any]] = []
        self.end: Mapping[str, Any] = {}
        self._before_each = before_each

    def write(self, events: Events, note: Mapping[str, Any]) -> None:
        self._before_each()
        self.batches.append(events.copy())
        self.notes.append(note)

    def close(self, note: Mapping[str, Any]) -> None:
        self.end = note

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    @property
    def moments(self) -> list[int]:
        return [int(ts) for batch in self.batches for ts in batch["ts"]]


BLUE, RED = 4026532177, 4026532178
FAR, FARTHER = 1 << 31 | 7, 1 << 31 | 8
NAMES = {5: (kernel.netns(), "eth9"), FAR: (BLUE, "eth2"), FARTHER: (RED, "eth2")}


class Machine:
    """The maps of a loaded program, and what drains them."""

    def __init__(self) -> None:
        self.ring = KernelRing(RING_PAGES * PAGE)
        self.ledger = Ledger(CPUS, KINDS)
        self.queues = Queues()
        self.rotate = threading.Event()
        self.progress = Progress(reason="duration")
        self.observe: Callable[[Events], object] = lambda _: None
        self.skipped: Iterator[dict[str, int] | None] = itertools.repeat(None)

    def drain(self, *sinks: session.Sink) -> session._Drain:
        maps = {"events": self.ring, "ledger": self.ledger, "queues": self.queues}
        following = iter(sinks)
        ring = RING_PAGES * PAGE
        return session._Drain(
            maps,
            ring,
            lambda: next(following),
            lambda events: self.observe(events),
            lambda: next(self.skipped),
            [VIRTIO_NET],
            self.rotate,
            self.progress,
        )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Ring, pool and batches are small, so that all of them go round many times."""
    monkeypatch.setattr(program, "cpus", lambda: CPUS)
    monkeypatch.setattr(program, "device_name", lambda _, number: NAMES.get(number))
    monkeypatch.setattr(kernel, "devices", lambda _: DEVICES)
    monkeypatch.setattr(kernel, "namespaces", lambda: {"blue": BLUE})
    monkeypatch.setattr(session, "POOL_BYTES", 0)
    monkeypatch.setattr(start, "ring_bytes", lambda _: RING_PAGES * PAGE)
    monkeypatch.setattr(session, "BATCH_EVENTS", 32)
    monkeypatch.setattr(session, "DRAIN_INTERVAL", 0.001)
    monkeypatch.setattr(session, "FLUSH_INTERVAL", 0.01)
    return Machine()


def _send_all(ring: KernelRing, events: Events) -> None:
    """Send events as the probes would that wait for room."""
    deadline = time.monotonic() + 30
    sent = 0
    while sent < len(events):
        sent += ring.send(events[sent : sent + 50])
        assert time.monotonic() < deadline
        time.sleep(0)


def test_devices_are_known_when_events_name_them(machine: Machine) -> None:
    """Those of this namespace by sysfs, others and those that went away again by what the probes saw."""
    machine.progress.devices = [DEVICES[0]]
    sink = Kept()
    drain = machine.drain(sink)
    drain.start()
    numbers = [3, 4, 5, 6, FAR, FARTHER]
    _send_all(machine.ring, numbered(6, kind=KIND["poll"], ifindex=np.array(numbers)))
    drain.finish()
    names = {device["ifindex"]: device["name"] for device in sink.notes[-1]["devices"]}
    here = {device["ifindex"]: device["name"] for device in DEVICES}
    far = {5: "eth9", 6: "if6", FAR: "blue/eth2", FARTHER: f"net:[{RED}]/eth2"}
    assert names == {each: (here | far)[each] for each in numbers}
    assert [device["ifindex"] for device in machine.progress.devices] == numbers


def test_no_event_is_lost_and_none_comes_twice(machine: Machine) -> None:
    """2000 events through a ring of 227, a pool of 256 and batches of at most 32."""
    sink = Kept()
    drain = machine.drain(sink)
    drain.start()
    events = numbered(2000, kind=KIND["poll"], cpu=np.arange(2000) % CPUS)
    _send_all(machine.ring, events)
    drain.finish()
    assert sink.moments == list(range(2000))
    assert max(map(len, sink.batches)) <= 32
    assert machine.progress.events == 2000
    assert machine.ring.consumed == 2000 * RECORD
    assert sink.end["end"] == {"reason": "duration"}
    assert sink.end["ledger"]["poll"]["delivered"] == [500] * CPUS


def test_events_of_the_last_moment_are_drained(machine: Machine) -> None:
    sink = Kept()
    drain = machine.drain(sink)
    machine.ring.send(numbered(200))
    drain.start()
    drain.finish()
    assert sink.moments == list(range(200))


def test_slow_disk_leaves_events_in_the_ring(machine: Machine) -> None:
    """Pool and ring fill up; nothing that waits is overwritten."""
    disk = threading.Event()
    sink = Kept(lambda: disk.wait(30))
    drain = machine.drain(sink)
    drain.start()
    deadline = time.monotonic() + 10
    sent = 0
    while sent < 400 and time.monotonic() < deadline:
        sent += machine.ring.send(numbered(1, sent))
    assert sent == 400
    time.sleep(0.05)
    assert machine.ring.consumed == 256 * RECORD
    disk.set()
    drain.finish()
    assert sink.moments == list(range(400))


def test_failed_write_ends_the_trace_and_is_raised(machine: Machine) -> None:
    def fail() -> None:
        raise UserError("the disk is full.")

    drain = machine.drain(Kept(fail))
    drain.start()
    machine.ring.send(numbered(220))
    deadline = time.monotonic() + 10
    while not drain.failed and time.monotonic() < deadline:
        time.sleep(0.001)
    with pytest.raises(UserError, match="the disk is full"):
        drain.finish()


def test_trace_goes_on_in_the_next_file_and_each_event_is_in_one(machine: Machine) -> None:
    """What is attempted and in the ring at the cut counts in the next file; so does what is dropped later."""
    first, second = Kept(), Kept()
    drain = machine.drain(first, second)
    counts = machine.ledger.counts
    counts["attempted"][0, KIND["poll"]], counts["dropped"][0, KIND["poll"]] = 64, 4
    machine.ring.send(numbered(60, kind=KIND["poll"]))
    drain.start()
    deadline = time.monotonic() + 10
    while len(first.moments) < 60 and time.monotonic() < deadline:
        time.sleep(0.001)
    # Attempted, but not delivered yet.
    counts["attempted"][0, KIND["poll"]] = 95
    machine.rotate.set()
    while not first.end and time.monotonic() < deadline:
        time.sleep(0.001)
    counts["dropped"][0, KIND["poll"]] = 5
    machine.ring.send(numbered(30, 60, kind=KIND["poll"]))
    drain.finish()
    assert first.moments == list(range(60))
    assert second.moments == list(range(60, 90))
    ends = [sink.end["ledger"]["poll"] for sink in (first, second)]
    assert [(end["attempted"][0], end["delivered"][0], end["dropped"][0]) for end in ends] == [
        (64, 60, 4),
        (31, 30, 1),
    ]
    assert [sink.end["end"]["reason"] for sink in (first, second)] == ["rotated", "duration"]


def test_what_the_kernel_skipped_is_told_at_the_end_of_each_file(machine: Machine) -> None:
    counts: list[dict[str, int] | None] = [{"in": 5, "out": 1}, {"in": 7, "out": 1}, {"in": 7, "out": 4}]
    machine.skipped = iter(counts)
    first, second = Kept(), Kept()
    drain = machine.drain(first, second)
    machine.rotate.set()
    drain.start()
    while not first.end:
        time.sleep(0.01)
    drain.finish()
    assert first.end["end"] == {"reason": "rotated", "missed": {"in": 2}}
    assert second.end["end"] == {"reason": "duration", "missed": {"out": 3}}


def test_display_that_fails_ends_nothing(machine: Machine) -> None:
    def fail(_: Events) -> None:
        raise ZeroDivisionError("of the display")

    machine.observe = fail
    sink = Kept()
    drain = machine.drain(sink)
    drain.start()
    machine.ring.send(numbered(50))
    drain.finish()
    assert sink.moments == list(range(50))
    assert machine.progress.blind == "ZeroDivisionError: of the display"


def test_notes_have_the_ledger_of_their_batch(machine: Machine) -> None:
    sink = Kept()
    drain = machine.drain(sink)
    machine.ledger.counts["attempted"][1, KIND["refill"]] = 9
    machine.ledger.counts["dropped"][1, KIND["refill"]] = 2
    machine.ring.send(numbered(7, kind=KIND["refill"], cpu=1))
    drain.start()
    drain.finish()
    (note,) = sink.notes
    assert note["ledger"]["refill"] == {
        "attempted": [0, 9, 0, 0],
        "delivered": [0, 7, 0, 0],
        "dropped": [0, 2, 0, 0],
    }
    assert list(note["ledger"]) == list(KIND)
    assert abs(note["now_ns"] - time.clock_gettime_ns(time.CLOCK_MONOTONIC)) < 30e9
    assert machine.progress.dropped == 2


def _queue(napi: Events, worker: Events, irqs: int = 0) -> SimpleNamespace:
    """A struct rxt_queue as bcc shows it; some interrupts were sent before."""
    windows = [bytearray(window.tobytes()) for window in (napi, worker)]
    return SimpleNamespace(window=windows[0], worker_window=windows[1], irqs=irqs + 10, irqs_sent=10)


def test_open_windows_are_copied_from_the_map(machine: Machine) -> None:
    closed = np.zeros(1, EVENT)
    open_ = {"kind": KIND["window"], "ifindex": 3}
    napi = numbered(1, 4000, **open_, queue=1, dur=3000, polls=3, packets=20, posted_before=5, posted_after=9)
    flags = FLAG["process"] | FLAG["in_worker"]
    worker = numbered(1, 2500, **open_, queue=3, dur=500, refills=8, failed=7, posted_after=1, flags=flags)
    machine.queues[1] = _queue(napi, closed, irqs=2)
    machine.queues[2] = _queue(closed, closed, irqs=1 << 20)
    machine.queues[3] = _queue(closed, worker)
    sink = Kept()
    drain = machine.drain(sink)
    drain.start()
    drain.finish()
    (windows,) = sink.batches
    assert windows["kind"].tolist() == [KIND["window"]] * 2
    columns = ["queue", "ts", "dur", "polls", "packets", "irqs", "posted_before", "posted_after", "flags"]
    assert windows[columns][0].tolist() == (1, 4000, 3000, 3, 20, 2, 5, 9, 0)
    columns = ["queue", "ts", "dur", "refills", "failed", "posted_after", "irqs", "flags"]
    assert windows[columns][1].tolist() == (3, 2500, 500, 8, 7, 1, 0, flags)
    # No probe attempted to send them: the ledger counts them here, so that it still adds up.
    assert (
        sink.end["ledger"]["window"]["attempted"] == sink.end["ledger"]["window"]["delivered"] == [2, 0, 0, 0]
    )


class Table(dict[int, int]):
    """A map of the program, as bcc shows it."""

    Key = Leaf = int


def test_layout_of_the_compiler_must_be_that_of_the_reader() -> None:
    session._check_layout({"layout": SimpleNamespace(Leaf=EVENT)})
    with pytest.raises(UserError, match="disagree on the layout"):
        session._check_layout({"layout": SimpleNamespace(Leaf=np.dtype([("ts", "<u8")]))})


def test_meta_says_what_was_attached_and_what_was_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "gfp_flags", lambda: {"__GFP_HIGH": 0x20})
    monkeypatch.setattr(program, "regime", lambda driver, present: f"{driver.name}: {sorted(present)}")
    own = VIRTIO_NET.hooks[0]
    core = Hook("rxt_core", ("kprobe:a", "kprobe:b"), False, "the core")
    other = drivers.load("qlge").hooks[0]
    attached = [
        Attached(core, "kprobe:b"),
        Attached(own, None, "no such function"),
        Attached(other, other.at[0]),
    ]
    options = Options([VIRTIO_NET], ["eth1"], [0], full=True)
    found = session._meta(options, [{"module": "virtio_net", "variant": "stock"}], DEVICES, attached)
    assert found["options"] == {"detail": "full", "devices": ["eth1"], "queues": [0]}
    assert found["kernel"] == os.uname().release
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
    session._wait(options, [7], stop or threading.Event(), drain, progress, shown.append)
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_stop_the_trace_and_are_given_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    rotate = threading.Event()
    with session._signals(rotate) as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.wait(5)
    assert signal.getsignal(number) == before
    assert not rotate.is_set()


def test_sigusr1_stops_nothing() -> None:
    rotate = threading.Event()
    with session._signals(rotate) as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert rotate.wait(5)
        assert not stop.is_set()


@pytest.fixture
def rehearsal(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A kernel that has everything; gives the steps of a trace in their order."""
    steps: list[str] = []
    maps: Any = {"events": machine.ring, "ledger": machine.ledger, "queues": machine.queues}
    maps |= {"layout": SimpleNamespace(Leaf=EVENT)}
    step = steps.append
    for name, value in {
        "require_root": lambda: None,
        "module_facts": lambda module: {"module": module, "variant": "stock"},
        "devices": lambda _: DEVICES,
        "gfp_flags": dict,
    }.items():
        monkeypatch.setattr(kernel, name, value)
    for name, value in {
        "defines": lambda *_, **__: {},
        "compile_program": lambda *_: step("compile") or (maps, "the kernel's BTF"),
        "set_filters": lambda _, chosen, queues: step(f"filter {chosen} {queues}"),
        "attach": lambda _, hooks: step("attach") or [Attached(hook, hook.at[0]) for hook in hooks],
        "arm": lambda _, on: step(f"arm {on}"),
        "detach": lambda _: step("detach"),
        "regime": lambda *_: "none",
        "misses": lambda _: {"poll_in": 3},
    }.items():
        monkeypatch.setattr(program, name, value)
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
        f"filter {[(kernel.netns(), 'eth2')]} [2]",
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
