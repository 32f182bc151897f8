# SPDX-License-Identifier: GPL-2.0-only
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from toolkit import drivers
from toolkit.capture import kernel, maps, program
from toolkit.capture.btf import Member
from toolkit.capture.compiled import Compiled
from toolkit.capture.kernel import Functions
from toolkit.capture.loader import Loaded
from toolkit.capture.program import Attached


class Table(dict[Any, Any]):
    """A map of the program, as bcc shows it."""

    Leaf = int
    Key = staticmethod(lambda *members: members[0] if len(members) == 1 else members)


class _Leaf(SimpleNamespace):
    """A struct rxt_ring."""

    def __init__(self) -> None:
        super().__init__(
            napi=0,
            **{name: SimpleNamespace(offset=0, size=0, pointer=0) for name in ("fill", "clean", "count")},
        )


def test_filters_and_the_switch_are_entries_of_maps() -> None:
    tables = {name: Table() for name in ("only_devices", "only_queues", "armed")}
    chosen = [maps.Chosen(4026531840, "eth1"), maps.Chosen(4026532177, "eth1", by_polls=3)]
    maps.set_filters(tables, chosen, [])
    assert tables["only_devices"] == {(4026531840, b"eth1"): 1, (4026532177, b"eth1"): 5}
    assert tables["only_queues"] == {}
    maps.arm(tables, True)
    assert tables["armed"] == {0: 1}
    maps.arm(tables, False)
    assert tables["armed"] == {0: 0}


def test_a_device_is_what_the_program_saw_it_called() -> None:
    seen = SimpleNamespace(name=SimpleNamespace(netns=4026532177, name=b"eth2"), ifindex=3)
    tables = {"devices": Table({1 << 31 | 7: seen})}
    assert maps.device_name(tables, 1 << 31 | 7) == (4026532177, "eth2")
    assert maps.device_name(tables, 3) is None


def test_a_stack_begins_with_its_outermost_function() -> None:
    found = SimpleNamespace(ip=[0xFFFFFFFF81000105, 0xFFFFFFFF81000007, 0, 0])
    tables = {"stacks": Table({7: found})}
    assert maps.stack(tables, 7) == [0xFFFFFFFF81000007, 0xFFFFFFFF81000105]
    assert maps.stack(tables, 8) == []


def test_a_driver_is_known_by_where_its_poll_function_is() -> None:
    qlge, igb = drivers.load("qlge"), drivers.load("igb")
    tables = {"poll_functions": Table()}
    functions = Functions(f"ffffffffc0001000 t {qlge.poll}\t[qlge]\n".encode())
    maps.set_polls(tables, [igb, qlge], functions)
    assert tables["poll_functions"] == {1: 0xFFFFFFFFC0001000}


def test_ring_is_told_to_the_program_or_its_hooks_are_of_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {
        "e1000_ring.next_to_use": Member(20, 2),
        "e1000_ring.next_to_clean": Member(22, 2, pointer=0),
    }
    driver = "e1000e"

    @contextmanager
    def types(_: str) -> Iterator[Any]:
        yield SimpleNamespace(member=there.get)

    monkeypatch.setattr(maps, "module_btf", types)
    monkeypatch.setattr(kernel, "has_btf", lambda _: True)
    tables = {"rings": Table()}
    monkeypatch.setattr(Table, "Leaf", _Leaf)
    chosen = [drivers.load("virtio_net"), drivers.load(driver)]
    useless = maps.set_rings(tables, chosen)
    assert [(each.hook, each.at) for each in useless] == [(hook, None) for hook in chosen[1].ring_hooks]
    assert useless[0].why == "this kernel's BTF lacks e1000_ring.count"
    assert tables["rings"] == {}
    nothing = Loaded(Compiled("", "GPL", [], {}), {})
    hooks = chosen[1].ring_hooks
    assert program.attach(nothing, hooks, Functions(b""), useless=useless) == useless
    there["e1000_ring.count"] = Member(16, 4)
    assert maps.set_rings(tables, chosen) == []
    ring = tables["rings"][1]
    members = [(member.offset, member.size, member.pointer) for member in (ring.fill, ring.clean, ring.count)]
    assert members == [(20, 2, 0), (22, 2, 1), (16, 4, 0)]
    assert (ring.more, ring.step, ring.behind, ring.size, ring.napi) == (0, 16, 1, 0, 0)


def test_ring_may_be_known_by_its_napi_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offset 0 of an instance is one, too: what is told is the place after it."""
    there = {
        "tulip_private.napi": Member(0, 400),
        "tulip_private.dirty_rx": Member(408, 4),
        "tulip_private.cur_rx": Member(400, 4),
    }
    monkeypatch.setattr(kernel, "has_btf", lambda _: False)
    monkeypatch.setattr(maps, "kernel_btf", lambda: nullcontext(SimpleNamespace(member=there.get)))
    monkeypatch.setattr(Table, "Leaf", _Leaf)
    tables = {"rings": Table()}
    tulip = drivers.load("tulip")
    assert maps.set_rings(tables, [tulip]) == []
    ring = tables["rings"][0]
    assert (ring.fill.offset, ring.clean.offset, ring.napi, ring.size) == (408, 400, 1, 128)
    (hook,) = tulip.ring_hooks
    nothing = Loaded(Compiled("", "GPL", [], {}), {})
    assert program.attach(nothing, [hook], Functions(b"")) == [Attached(hook, "btf:tulip_private.napi")]
    del there["tulip_private.napi"]
    (useless,) = maps.set_rings(tables, [tulip])
    assert (useless.hook, useless.at) == (hook, None)
    assert hook.tells == ("posted_min",)
