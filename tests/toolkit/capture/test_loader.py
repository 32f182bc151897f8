# SPDX-License-Identifier: GPL-2.0-only
"""On the kernel that runs here, where it lets this user load programs; tests on machines show it, too."""

import os
import platform
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from toolkit.capture import compiled, loader
from toolkit.capture.btf import kernel_btf
from toolkit.capture.compiled import Compiled, Map
from toolkit.capture.loader import Loaded
from toolkit.errors import UserError

HASH, ARRAY = 1, 2
PAIRS = Map("pairs", HASH, 4, 8, 4, 0, "I", {"low": "I", "high": "I"})
#: r1 = map 1; r0 = 0; exit. And one that returns what was never set.
LOAD_MAP = bytes([0x18, 0x11, 0, 0]) + (1).to_bytes(4, sys.byteorder) + bytes(8)
LEAVE = bytes([0xB7, 0, 0, 0, 0, 0, 0, 0]) + bytes([0x95]) + bytes(7)
FUNCTIONS = {"good": LOAD_MAP + LEAVE, "bad": bytes([0x95]) + bytes(7)}
PROGRAM = Compiled("", "GPL", [PAIRS, Map("a_map_with_a_long_name", ARRAY, 4, 4, 1, 0, "I", "I")], FUNCTIONS)


@pytest.fixture
def loaded() -> Iterator[Loaded]:
    """A program in this kernel."""
    try:
        found = loader.load(PROGRAM, {"pairs": 3})
    except UserError as error:
        pytest.skip(f"no BPF here: {error}")
    yield found
    loader.unload(found)


def test_a_map_is_what_was_put_into_it(loaded: Loaded) -> None:
    pairs = loaded["pairs"]
    assert len(pairs) == 3 and list(pairs.values()) == []
    for number in range(3):
        pairs[pairs.Key(number)] = pairs.Leaf(number, 2 * number)
    pairs[pairs.Key(1)] = pairs.Leaf(5, 6)
    assert sorted((leaf.low, leaf.high) for leaf in pairs.values()) == [(0, 0), (2, 4), (5, 6)]
    assert pairs.get(pairs.Key(1)).high == 6
    assert pairs.get(pairs.Key(9)) is None
    with pytest.raises(OSError, match="Argument list too long"):
        pairs[pairs.Key(9)] = pairs.Leaf()


def test_a_map_that_the_kernel_refuses_is_one_sentence() -> None:
    nothing = Compiled("", "GPL", [Map("strange", 9999, 4, 4, 1, 0, "I", "I")], {})
    with pytest.raises(UserError, match="refuses the map strange of the probes"):
        loader.load(nothing, {})


def test_a_function_is_loaded_once_and_a_bad_one_is_refused_in_the_verifiers_words(loaded: Loaded) -> None:
    for _ in range(2):
        # No tracepoint has this name, so the function is loaded and not attached.
        with pytest.raises(FileNotFoundError):
            loader.attach(loaded, "raw_tracepoint", "no_such_tracepoint", "good")
    assert list(loaded.functions) == ["good"]
    with pytest.raises(OSError, match="R0 !read_ok"):
        loader.attach(loaded, "raw_tracepoint", "no_such_tracepoint", "bad")
    assert loaded.probes == []


def test_a_probe_is_on_until_it_is_taken_off(loaded: Loaded) -> None:
    try:
        loader.attach(loaded, "raw_tracepoint", "sys_enter", "good")
    except OSError as error:
        pytest.skip(f"no tracepoints here: {error}")
    assert len(loaded.probes) == 1
    loader.detach(loaded)
    assert loaded.probes == []


def test_a_function_for_a_kprobe_finds_the_parameters_that_it_is_given() -> None:
    """Those of the tracepoint sys_enter(regs, number), which can be given in the same way."""
    places = compiled._PARAMETERS[platform.machine()]
    number = 110 if platform.machine() == "x86_64" else 173
    # r9 = number; leave if it is another. Write it on the stack; update map 0, whose key is 0, with it.
    code = [
        (0x79, 0x19, places[1], 0),
        (0x55, 0x09, 10, number),
        (0x7B, 0x9A, -8, 0),
        (0x62, 0x0A, -12, 0),
        (0xBF, 0xA2, 0, 0),
        (0x07, 0x02, 0, -12),
        (0xBF, 0xA3, 0, 0),
        (0x07, 0x03, 0, -8),
        (0xB7, 0x04, 0, 0),
        (0x18, 0x11, 0, 0),
        (0, 0, 0, 0),
        (0x85, 0, 0, 2),
    ]
    function = compiled._assembled(code) + LEAVE
    traced_by_type = 23
    try:
        with kernel_btf() as types:
            typedef = types._lib.btf__find_by_name_kind(types._handle, b"btf_trace_sys_enter", 8)
        found = loader.load(Compiled("", "GPL", [PAIRS], {"write": function}), {})
    except UserError as error:
        pytest.skip(f"no BPF here: {error}")
    try:
        given = compiled.with_parameters(loader._code(found, "write"), 2, platform.machine())
        program = loader.verified(loader._TRACING, "write", given, "GPL", traced_by_type, typedef)
        link = loader.bpf(loader._RAW_TRACEPOINT_OPEN, struct.pack("=QI4x", 0, program))
        os.getppid()
        os.close(link)
        os.close(program)
        (seen,) = found["pairs"].values()
        assert (seen.low, seen.high) == (number, 0)
    finally:
        loader.unload(found)


def test_functions_at_a_clock_are_called_in_turn() -> None:
    """Each finds what the first was given: the second has a count of its own."""

    def counts(key: int) -> bytes:
        # Leave if there is no argument. Add 1 to the number in map 0 that has this key; other CPUs may, too.
        code = [
            (0x15, 0x01, 9, 0),
            (0x62, 0x0A, -4, key),
            (0xBF, 0xA2, 0, 0),
            (0x07, 0x02, 0, -4),
            (0x18, 0x11, 0, 0),
            (0, 0, 0, 0),
            (0x85, 0, 0, 1),
            (0x15, 0x00, 2, 0),
            (0xB7, 0x01, 0, 1),
            (0xDB, 0x10, 0, 0),
        ]
        return compiled._assembled(code) + LEAVE

    numbers = Map("numbers", ARRAY, 4, 8, 2, 0, "I", "L")
    functions = {"first": counts(0), "second": counts(1)}
    try:
        found = loader.load(Compiled("", "GPL", [numbers], functions), {})
        loader.tick(found, 99, ["first", "second"])
    except (UserError, OSError) as error:
        pytest.skip(f"no BPF or no clocks here: {error}")
    try:
        deadline = time.monotonic() + 30
        while not next(iter(found["numbers"].values())).value and time.monotonic() < deadline:
            time.sleep(0.01)
        loader.detach(found)
        first, second = (each.value for each in found["numbers"].values())
        assert first == second > 0
    finally:
        loader.unload(found)


def test_links_may_be_taken_off_while_somebody_asks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that is being asked is not closed, and what it said is counted once."""
    read, write = os.pipe()
    asking, go_on = threading.Event(), threading.Event()

    def ask(link: int, function: str) -> Counter[str]:
        asking.set()
        assert go_on.wait(30)
        os.fstat(link)
        return Counter({function: 3})

    monkeypatch.setattr(loader, "_skipped", ask)
    loaded = Loaded(Compiled("", "GPL", [], {}), {}, probes=[read], links={read: "poll_in"})
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(loader.skipped, loaded)
        assert asking.wait(30)
        gone = pool.submit(loader.detach, loaded)
        time.sleep(0.05)
        go_on.set()
        gone.result(30)
        assert asked.result(30) == {"poll_in": 3}
    os.close(write)
    assert loader.skipped(loaded) == {"poll_in": 3}
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read)
