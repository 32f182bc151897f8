# SPDX-License-Identifier: GPL-2.0-only
import errno
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from toolkit import drivers
from toolkit.capture import compiled, compiler, kernel, loader, program
from toolkit.capture.btf import Function
from toolkit.capture.compiled import Compiled
from toolkit.capture.kernel import Functions
from toolkit.capture.loader import Loaded
from toolkit.capture.program import Attached, Macros
from toolkit.driver import Driver, Field, Hook
from toolkit.errors import UserError
from toolkit.event import FLAG

VIRTIO_NET = drivers.load("virtio_net")
FIELDS = VIRTIO_NET.fields
NOTHING = Compiled("the kernel's BTF", "GPL", [], {})


@pytest.mark.parametrize(
    ("driver", "attached", "regime"),
    [
        ("virtio_net", {"virtnet_refill_work_in"}, "delayed work, NAPI off"),
        ("virtio_net", set(), "NAPI repoll"),
        ("qlge", {"qlge_slow_refill_in"}, "workqueue fallback"),
    ],
)
def test_regime_follows_from_what_was_attached(driver: str, attached: set[str], regime: str) -> None:
    assert program.regime(drivers.load(driver), attached, Functions(b"")) == regime


class Kernel:
    """The functions of a kernel, and what is attached to them; `broken` ones refuse.

    The kernel's types have `typed` functions: these can call a program where they begin.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *symbols: str, broken: str = "", typed: Sequence[str] = ()
    ) -> None:
        self.functions = Functions(b"".join(b"ffffffff81000000 t %s\n" % name.encode() for name in symbols))
        self.attached: list[tuple[str, str, str]] = []
        self._broken = broken
        self._typed = typed
        monkeypatch.setattr(loader, "attach", self._attach)
        monkeypatch.setattr(
            loader, "enter", lambda loaded, at, name: self._attach(loaded, "fentry", at.name, name)
        )
        monkeypatch.setattr(program, "kernel_btf", self._types)

    @contextmanager
    def _types(self) -> Iterator[Any]:
        yield SimpleNamespace(function=lambda name: Function(name, 7, 1) if name in self._typed else None)

    def attach(self, hooks: Sequence[Hook], *, strict: bool = True) -> list[Attached]:
        """Attach hooks one by one, to see them in their order."""
        return [
            each
            for hook in hooks
            for each in program.attach(Loaded(NOTHING, {}), [hook], self.functions, strict=strict)
        ]

    def _attach(self, _: Loaded, kind: str, name: str, function: str) -> None:
        if name == self._broken:
            raise OSError(errno.EINVAL, "R1 invalid mem access 'inv'")
        self.attached.append((kind, name, function))


@pytest.mark.parametrize(
    ("about", "found"),
    [
        ("prog_type:\t2\nrecursion_misses:\t112\n", {"poll_in": 112}),
        ("prog_type:\t2\n", None),
    ],
)
def test_what_the_kernel_skipped_is_in_fdinfo(
    about: str, found: dict[str, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        kernel, "read", lambda path: about.strip() if path == Path("/proc/self/fdinfo/9") else None
    )
    assert program.misses(Loaded(NOTHING, {}, {"poll_in": 9})) == found


def test_a_function_may_be_that_of_one_module(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, "alloc_rx_buffers")
    hook = Hook("fill_in", ("kprobe:e1000e:alloc_rx_buffers",), True, "")
    (attached,) = kernel.attach([hook])
    assert attached.at == "kprobe:e1000e:alloc_rx_buffers"
    assert kernel.attached == [("kprobe", "e1000e:alloc_rx_buffers", "fill_in")]


@pytest.mark.parametrize(("there", "regime"), [("qlge_retry_refill", "timer"), ("other", "none")])
def test_regime_follows_from_a_function_that_is_there(
    there: str, regime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions = Kernel(monkeypatch, there).functions
    assert program.regime(drivers.load("qlge"), set(), functions) == regime


def test_hook_goes_to_the_first_candidate_that_the_kernel_has(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, "new_name", "old_name", "f")
    hooks = [
        Hook("a", ("kprobe:newest_name", "kprobe:new_name", "kprobe:old_name"), True, ""),
        Hook("b", ("kretprobe:f",), True, ""),
        Hook("c", ("raw_tracepoint:kfree_skb",), True, ""),
    ]
    found = kernel.attach(hooks)
    assert [each.at for each in found] == ["kprobe:new_name", "kretprobe:f", "raw_tracepoint:kfree_skb"]
    assert kernel.attached == [
        ("kprobe", "new_name", "a"),
        ("kretprobe", "f", "b"),
        ("raw_tracepoint", "kfree_skb", "c"),
    ]


@pytest.mark.parametrize(
    ("symbols", "place", "program_there"),
    [
        (("new_name",), "kprobe:new_name", "new_in"),
        (("old_name",), "kretprobe:old_name", "old_in"),
        (("new_name", "old_name"), "kprobe:new_name", "new_in"),
    ],
)
def test_candidate_may_have_a_program_of_its_own(
    symbols: tuple[str, ...], place: str, program_there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other arguments need another program; one of the two places is required."""
    kernel = Kernel(monkeypatch, *symbols)
    places = ("kprobe:new_name", "kretprobe:old_name")
    hook = Hook("new_in", places, True, "", programs={"kretprobe:old_name": "old_in"})
    (attached,) = kernel.attach([hook])
    assert attached.at == place
    assert kernel.attached == [(*place.split(":"), program_there)]
    with pytest.raises(UserError, match="none of kprobe:new_name, kretprobe:old_name"):
        Kernel(monkeypatch).attach([hook])


def test_hook_that_is_refused_says_why_and_the_next_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, "first", "second", broken="first")
    both, alone = (
        Hook("a", ("kprobe:first", "kprobe:second"), True, ""),
        Hook("b", ("kprobe:first",), False, ""),
    )
    one, two = kernel.attach([both, alone])
    assert (one.at, one.why) == ("kprobe:second", "")
    assert (two.at, two.why) == (None, "R1 invalid mem access 'inv'")


def test_hooks_at_one_clock_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: list[tuple[int, list[str]]] = []

    def tick(_: Loaded, hertz: int, functions: list[str]) -> None:
        if hertz == 7:
            raise OSError(errno.EPERM, "Operation not permitted")
        ticks.append((hertz, functions))

    monkeypatch.setattr(loader, "tick", tick)
    hooks = [
        Hook(name, (f"clock:{hertz}",), False, "")
        for name, hertz in zip("abcd", (49, 99, 49, 7), strict=True)
    ]
    found = program.attach(Loaded(NOTHING, {}), hooks, Functions(b""))
    assert [each.at for each in found] == ["clock:49", "clock:99", "clock:49", None]
    assert found[-1].why == "Operation not permitted"
    assert ticks == [(49, ["a", "c"]), (99, ["b"])]


def test_a_copy_of_a_function_is_taken_if_it_has_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, "a.isra.0", "b.constprop.0.isra.3", "c.part.0", typed=["a", "c"])
    hooks = [Hook(name, (f"kprobe:{name}",), False, "") for name in "abc"]
    a, b, c = kernel.attach(hooks)
    assert a.at == "kprobe:a.isra.0" and kernel.attached == [("kprobe", "a.isra.0", "a")]
    assert (b.at, b.why) == (None, "there is b.constprop.0.isra.3 only, whose arguments may be others")
    # A part of a function is none.
    assert (c.at, c.why) == (None, program.NO_FUNCTION)


def test_required_hook_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    hooks = [Hook("a", ("kprobe:x", "kprobe:y"), True, ""), Hook("b", ("kprobe:z",), False, "interrupts")]
    with pytest.raises(UserError, match="none of kprobe:x, kprobe:y, which the probes need"):
        kernel.attach(hooks)
    assert [each.at for each in kernel.attach(hooks, strict=False)] == [None, None]
    assert [each.at for each in kernel.attach(hooks[1:])] == [None]


def test_hooks_are_those_of_the_core_and_then_the_drivers() -> None:
    names = [hook.program for hook in program.hooks([VIRTIO_NET])]
    own = [hook.program for hook in VIRTIO_NET.hooks]
    assert names[-len(own) :] == own
    assert names[: -len(own)] and all(name.startswith("rxt_") for name in names[: -len(own)])


def test_hooks_that_drivers_share_are_attached_once() -> None:
    """Declared drivers are traced by the probes for any driver; each has its ring's function beside."""
    of_any, declared = drivers.of_any(), [drivers.load("e1000"), drivers.load("igb")]
    hooks = program.hooks([*declared, of_any])
    assert hooks == [hook for place, hook in enumerate(hooks) if hook not in hooks[:place]]
    assert {hook.at[0] for hook in hooks} >= {"kprobe:igb:igb_alloc_rx_buffers", of_any.hooks[0].at[0]}


def _btf(monkeypatch: pytest.MonkeyPatch, known: Mapping[str, int]) -> None:
    @contextmanager
    def module_btf(_: str) -> Iterator[Any]:
        yield SimpleNamespace(resolve=known.get)

    monkeypatch.setattr(program, "module_btf", module_btf)
    monkeypatch.setattr(kernel, "has_btf", lambda _: False)
    monkeypatch.setattr(kernel, "is_built_in", lambda _: False)


def test_fields_are_offsets_and_sizes_of_the_first_path_that_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = {path: number for number, field in enumerate(FIELDS, 8) for path in field.of[-1:]}
    _btf(monkeypatch, wanted)
    found = program.fields(VIRTIO_NET)
    assert found == {
        f"{'OFF' if '.' in field.of[-1] else 'SIZE'}_{field.name}": wanted[field.of[-1]] for field in FIELDS
    }
    assert any(name.startswith("OFF_") for name in found)


@pytest.mark.parametrize(
    ("known", "macros"),
    [
        ({"rq.xdp": 8, "rq.napi": 16}, {"OFF_napi": 8}),
        ({"rq.napi": 16}, {"OFF_napi": 16}),
        ({"rq": 64}, {"SIZE_napi": 64}),
        ({}, {}),
    ],
)
def test_field_is_its_first_candidate_that_is_there(
    known: Mapping[str, int], macros: Mapping[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _btf(monkeypatch, known)
    driver = replace(VIRTIO_NET, fields=(Field("napi", ("rq.xdp", "rq.napi", "rq"), False),))
    assert program.fields(driver) == macros


def test_fields_of_core_are_in_the_kernels_btf(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {field.of[0]: number for number, field in enumerate(drivers.core()[1], 8)}

    @contextmanager
    def kernel_btf() -> Iterator[Any]:
        yield SimpleNamespace(
            resolve=wanted.get, enumerators=lambda enum: maps if enum == "bpf_map_type" else ()
        )

    maps = {"BPF_MAP_TYPE_HASH", "BPF_MAP_TYPE_RINGBUF"}
    monkeypatch.setattr(program, "kernel_btf", kernel_btf)
    assert program.core_fields() == {f"OFF_{field.name}": wanted[field.of[0]] for field in drivers.core()[1]}
    wanted.clear()
    with pytest.raises(UserError, match=r"core: this kernel's BTF lacks net_device.ifindex, net_device.name"):
        program.core_fields()
    maps.remove("BPF_MAP_TYPE_RINGBUF")
    with pytest.raises(UserError, match=r"no BPF ring buffer; use a newer kernel: Linux 5\.8"):
        program.core_fields()


def test_fields_of_another_module_are_in_its_own_btf_where_it_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {"virtio_net": dict.fromkeys((path for field in FIELDS for path in field.of), 8)}
    known["virtio_ring"] = {each: 96 for field in FIELDS if field.module for each in field.of}

    @contextmanager
    def module_btf(module: str) -> Iterator[Any]:
        yield SimpleNamespace(resolve=known[module].get)

    monkeypatch.setattr(program, "module_btf", module_btf)
    monkeypatch.setattr(kernel, "is_built_in", lambda _: False)
    for own, offset in ((False, 8), (True, 96)):
        monkeypatch.setattr(kernel, "has_btf", lambda _, own=own: own)
        assert program.fields(VIRTIO_NET)["OFF_vring_num"] == offset


def test_fields_of_a_driver_that_is_built_in_are_in_the_kernels_btf(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def kernel_btf() -> Iterator[Any]:
        yield SimpleNamespace(resolve=lambda _: 8)

    monkeypatch.setattr(program, "kernel_btf", kernel_btf)
    monkeypatch.setattr(kernel, "has_btf", lambda _: False)
    monkeypatch.setattr(kernel, "is_built_in", lambda _: True)
    assert set(program.fields(VIRTIO_NET).values()) == {8}


def test_missing_member_is_named_if_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    _btf(monkeypatch, {})
    required = ", ".join(" or ".join(field.of) for field in FIELDS if field.required)
    with pytest.raises(UserError) as error:
        program.fields(VIRTIO_NET)
    assert str(error.value).startswith(f"virtio_net: this kernel's BTF lacks {required};")


def test_macros_are_options_and_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    qlge = drivers.load("qlge")
    offsets = {"virtio_net": {"OFF_napi": 8}, "qlge": {"OFF_napi": 16}}
    monkeypatch.setattr(program, "fields", lambda driver: offsets[driver.name])
    monkeypatch.setattr(program, "core_fields", lambda: {"OFF_netdev_name": 24})
    monkeypatch.setattr(kernel, "gfp_flags", lambda: {"__GFP_DIRECT_RECLAIM": 0x400})
    macros = program.defines([VIRTIO_NET, qlge], full=True, only_devices=True, only_queues=False)
    assert macros.local == {
        "virtio_net": offsets["virtio_net"] | {"FLAG_by_program": FLAG["own_flag_1"]},
        "qlge": offsets["qlge"] | program.own_names(qlge),
    }
    found = macros.common
    assert found["OFF_netdev_name"] == 24 and "OFF_napi" not in found
    assert (found["DRIVER_virtio_net"], found["DRIVER_qlge"]) == (0, 1)
    assert found["RXT_GFP_DIRECT_RECLAIM"] == "0x400" and found["RXT_GFP_NORETRY"] == "0x0"
    assert found["RXT_CPUS"] == program.cpus()
    assert "RXT_DETAIL_FULL" in found and "RXT_ONLY_DEVICES" in found and "RXT_ONLY_QUEUES" not in found


def test_cpu_numbers_are_below_the_number_of_cpus() -> None:
    present = [int(path.name[3:]) for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*")]
    assert max(present) < program.cpus()


def _driver(directory: Path, name: str, text: str) -> Driver:
    """Make a driver whose probe.c is a text."""
    (directory / name).mkdir()
    (directory / name / "probe.c").write_text(text)
    return replace(VIRTIO_NET, name=name, directory=directory / name)


def _preprocess(text: str) -> str:
    """Replace macros without arguments in a C text, by its #define and #undef lines from top to bottom."""
    macros: dict[str, str] = {}
    lines = []
    for line in text.splitlines():
        match line.split():
            case ["#define", name, value]:
                macros[name] = value
            case ["#undef", name]:
                del macros[name]
            case _:
                lines.append(re.sub(r"\w+", lambda word: macros.get(word[0], word[0]), line))
    return "\n".join(lines)


def test_two_drivers_may_use_one_name_for_different_members(tmp_path: Path) -> None:
    one = _driver(tmp_path, "one", "read(key + OFF_napi, SIZE_ring);\n")
    two = _driver(tmp_path, "two", "look(ring + OFF_napi, SIZE_ring, OFF_netdev_name);\n")
    macros = Macros(
        {"OFF_netdev_name": 288}, {"one": {"OFF_napi": 8, "SIZE_ring": 64}, "two": {"OFF_napi": 720}}
    )
    text, flags = program._source([one, two], macros)
    lines = _preprocess(text).splitlines()
    assert "read(key + 8, 64);" in lines
    # What is of all stays, and what is the first driver's is gone.
    assert "look(ring + 720, SIZE_ring, OFF_netdev_name);" in lines
    assert flags[1:] == ["-DOFF_netdev_name=288"]


def test_program_is_the_core_and_each_driver_under_its_name_and_is_compiled_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Sequence[str]]] = []

    def run(text: str, flags: Sequence[str]) -> Compiled:
        asked.append((text, flags))
        return replace(NOTHING, headers=f"the {len(asked)}. time")

    monkeypatch.setattr(compiler, "run", run)
    monkeypatch.setattr(compiled, "DIRECTORY", tmp_path / "kept")
    macros = Macros({"RXT_CPUS": 4}, {})
    first = program.compile_program([VIRTIO_NET], macros)
    assert program.compile_program([VIRTIO_NET], macros) == first
    ((text, flags),) = asked
    lines = [line for line in text.splitlines() if line.startswith("#line")]
    core = [f'core/{path.name}"' for path in drivers.core_sources()]
    assert [line.split("probes/")[1] for line in lines] == [*core, 'virtio_net/probe.c"']
    assert "-DRXT_CPUS=4" in flags
    # Another option, another bcc and another kernel need another program.
    program.compile_program([VIRTIO_NET], Macros({"RXT_CPUS": 8}, {}))
    monkeypatch.setattr(compiler, "bcc_version", lambda: "0.99")
    program.compile_program([VIRTIO_NET], macros)
    monkeypatch.setattr(os, "uname", lambda: ("Linux", "host", "9.0", "#1", "x86_64"))
    program.compile_program([VIRTIO_NET], macros)
    assert len(asked) == 4
