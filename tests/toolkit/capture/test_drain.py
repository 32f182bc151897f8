# SPDX-License-Identifier: GPL-2.0-only
"""What is drained is written once and in order, with the ledger that belongs to it."""

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from tests.toolkit.capture.drained import CPUS, FAR, FARTHER, RED, Kept, Machine
from tests.toolkit.capture.ring_memory import RECORD, KernelRing, numbered
from tests.toolkit.capture.test_start import DEVICES
from toolkit.capture import bpf_programs, kernel, maps, steal
from toolkit.capture.bpf_programs import Code
from toolkit.errors import UserError
from toolkit.event import FLAG, KIND, NO_STACK, NO_TICK_NS, NOBODY
from toolkit.trace.schema import EVENT, Events


def _send_all(ring: KernelRing, events: Events) -> None:
    """Send events as the probes would that wait for room."""
    deadline = time.monotonic() + 30
    sent = 0
    while sent < len(events):
        sent += ring.send(events[sent : sent + 50])
        assert time.monotonic() < deadline
        time.sleep(0)


def _wait_for(there: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not there() and time.monotonic() < deadline:
        time.sleep(0.001)


def _wait_for_notes(sink: Kept, number: int) -> None:
    """Wait until so many batches were written."""
    _wait_for(lambda: len(sink.notes) >= number)


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


def test_functions_that_are_younger_than_the_trace_are_looked_up(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that is loaded later, and one that comes so soon after it that the table is not read again."""
    old, first, second = 0xFFFFFFFF81001000, 0xFFFFFFFFC0100010, 0xFFFFFFFFC0200010
    stacks = {number: [address] for number, address in enumerate((old, first, second))}
    monkeypatch.setattr(maps, "stack", lambda _, number: stacks[number])
    monkeypatch.setattr(maps, "thread_name", lambda *_: None)
    tables = [
        kernel.Functions(
            b"ffffffff81001000 T prep_new_page\nffffffff81002000 B _end\nffffffffc0100000 t hold\t[one]\n",
            b"one 4096 0 - Live 0xffffffffc0100000\n",
        )
    ]
    monkeypatch.setattr(kernel, "functions", tables.pop)
    sink = Kept()
    drain = machine.drain(sink)
    drain.start()
    for number in stacks:
        _send_all(machine.ring, numbered(1, kind=KIND["tick"], gfp=number, ifindex=3))
        _wait_for_notes(sink, number + 1)
    drain.finish()
    found = {each["stack"]: each["functions"] for note in sink.notes for each in note.get("stacks", [])}
    assert found == {0: ["prep_new_page"], 1: ["hold"], 2: [f"{second:#x}"]}


def test_bpf_program_that_is_younger_than_the_trace_has_its_own_name(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked up however soon it comes after another, and the kernel's functions are not read for it."""
    old, young = (
        Code(0xFFFFFFFFC0100000, 0xFFFFFFFFC0100200, "old"),
        Code(0xFFFFFFFFC0100200, 1 << 64, "young"),
    )
    known = [[old, young], [old]]
    monkeypatch.setattr(bpf_programs, "loaded", known.pop)
    monkeypatch.setattr(maps, "stack", lambda _, number: [(old, young)[number].start + 4])
    monkeypatch.setattr(maps, "thread_name", lambda *_: None)
    monkeypatch.setattr(kernel, "functions", None)
    sink = Kept()
    drain = machine.drain(sink)
    drain.start()
    for number in range(2):
        _send_all(machine.ring, numbered(1, kind=KIND["tick"], gfp=number, ifindex=3))
        _wait_for_notes(sink, number + 1)
    drain.finish()
    found = {each["stack"]: each["functions"] for note in sink.notes for each in note["stacks"]}
    assert found == {0: ["old"], 1: ["young"]}


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
    machine.asked.put(True)
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
    machine.asked.put(True)
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
    assert list(note["ledger"]) == ["refill"]
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


def test_memory_is_looked_at_more_often_while_refills_fail(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.capture.drain.MEMORY_INTERVAL", 0.0)
    # Longer than any machine is up: the first look does not wait for it.
    monkeypatch.setattr("toolkit.capture.drain.MEMORY_INTERVAL_ELSE", 1e12)
    sink = Kept()
    drain = machine.drain(sink)
    drain.start()
    for batches, failed in enumerate((0, 0, 1, 1), start=1):
        _send_all(machine.ring, numbered(1, kind=KIND["window"], failed=failed))
        deadline = time.monotonic() + 30
        while len(sink.notes) < batches and time.monotonic() < deadline:
            time.sleep(0.001)
    drain.finish()
    assert ["memory" in note for note in sink.notes] == [True, False, True, True]


def test_stolen_time_is_read_again_when_a_clock_has_not_ticked(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing is stolen, a file has one look: the hypervisor may not tell."""
    stolen = [0, 0]
    monkeypatch.setattr(steal, "read", lambda: list(stolen))
    sink = Kept()
    drain = machine.drain(sink)
    drain.start()
    for batches, (took, silent) in enumerate([(0, 0), (0, NO_TICK_NS), (5, 0), (5, NO_TICK_NS)], start=1):
        stolen[1] = took
        tick = {"kind": KIND["tick"], "tid": NOBODY, "gfp": NO_STACK}
        _send_all(machine.ring, numbered(1, **tick, dur=silent))
        deadline = time.monotonic() + 30
        while len(sink.notes) < batches and time.monotonic() < deadline:
            time.sleep(0.001)
    drain.finish()
    found = [[each["ns"] for each in note.get("steal", [])] for note in sink.notes]
    assert found == [[[0, 0]], [], [], [[0, 5]]]


def test_few_events_are_left_for_a_while_and_many_are_not(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ring has 227 places."""
    monkeypatch.setattr("toolkit.capture.drain.LEAVE_INTERVAL", 1e9)
    sink = Kept()
    drain = machine.drain(sink)
    drain.start()
    _send_all(machine.ring, numbered(20))
    time.sleep(0.1)
    assert sink.moments == [] and machine.ring.consumed == 0
    _send_all(machine.ring, numbered(10, 20))
    _wait_for_notes(sink, 1)
    _send_all(machine.ring, numbered(5, 30))
    drain.finish()
    assert sink.moments == list(range(35))


def test_batches_wait_for_longer_while_no_refill_fails(machine: Machine) -> None:
    sink = Kept()
    drain = machine.drain(sink, flush=1e9)
    drain.start()
    _send_all(machine.ring, numbered(5))
    time.sleep(0.1)
    assert sink.moments == [] and machine.ring.consumed == 5 * RECORD
    _send_all(machine.ring, numbered(1, 5, failed=1))
    _wait_for_notes(sink, 1)
    assert sink.moments == list(range(6))
    _send_all(machine.ring, numbered(2, 6))
    drain.finish()
    assert sink.moments == list(range(8)) and len(sink.batches) == 2


def test_next_file_begins_at_once_and_what_came_before_is_in_the_one_that_ends(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However seldom batches are written, and events are taken."""
    monkeypatch.setattr("toolkit.capture.drain.LEAVE_INTERVAL", 1e9)
    ended, following = Kept(), Kept()
    drain = machine.drain(ended, following, flush=1e9)
    drain.start()
    _send_all(machine.ring, numbered(3))
    machine.asked.put(True)
    _wait_for(lambda: ended.end)
    assert ended.end["end"] == {"reason": "rotated"}
    _send_all(machine.ring, numbered(2, 3))
    drain.finish()
    assert (ended.moments, following.moments) == ([0, 1, 2], [3, 4])
