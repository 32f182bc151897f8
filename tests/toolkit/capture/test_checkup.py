# SPDX-License-Identifier: GPL-2.0-only
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from tests.toolkit.capture.test_btf import ENUM, STRUCT, TYPEDEF, needs_libbpf, section
from tests.toolkit.capture.test_elf import build as elf_file
from tests.toolkit.capture.test_elf import symbols
from toolkit import drivers
from toolkit.capture import checkup, compiler, kernel, loader, program
from toolkit.capture.checkup import Finding
from toolkit.capture.compiled import Compiled
from toolkit.capture.packages import PackedKernel
from toolkit.capture.program import Attached, Macros
from toolkit.driver import Driver, Field, Hook, Ring
from toolkit.errors import UserError

VIRTIO_NET = drivers.load("virtio_net")
REQUIRED = Hook("poll", ("kprobe:a", "kprobe:b"), True, "")
OPTIONAL = Hook("irq", ("kprobe:c",), False, "receive interrupts", ("irqs",))


class Program(NamedTuple):
    """A program in the kernel; notes when it is taken out."""

    compiled: Compiled
    unloaded: list[bool]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Program:
    """A machine on which everything works."""
    bpf = Program(Compiled("the kernel's BTF", "GPL", [], {}), [])
    device = {"name": "eth1", "queues": [{}, {}]}
    for module, values in (
        (
            kernel,
            {
                "require_root": lambda: None,
                "require_no_lockdown": lambda: "integrity",
                "require_addresses": lambda: None,
                "require_tracefs": lambda: "/sys/kernel/tracing",
                "module_facts": lambda module: {"module": module, "variant": "stock"},
                "devices": lambda _: [device, {"name": "eth2", "queues": []}],
            },
        ),
        (compiler, {"bcc": lambda: SimpleNamespace(__version__="0.30.0")}),
        (
            loader,
            {
                "load": lambda *_: bpf,
                "detach": lambda _: None,
                "unload": lambda _: bpf.unloaded.append(True),
            },
        ),
        (
            program,
            {
                "defines": lambda *_, **__: Macros(
                    {"OFF_a": 1, "DRIVER_x": 0}, {"x": {"OFF_b": 2, "SIZE_c": 3}}
                ),
                "compile_program": lambda *_: bpf.compiled,
                "attach": lambda *_, **__: [Attached(REQUIRED, "kprobe:b"), Attached(OPTIONAL, "kprobe:c")],
            },
        ),
    ):
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)
    monkeypatch.delenv("SUDO_USER", raising=False)
    return bpf


def _fail(sentence: str) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise UserError(sentence)

    return fail


def test_findings_come_in_the_order_of_a_trace(loaded: Program) -> None:
    assert checkup.check(VIRTIO_NET) == [
        Finding("ok", "user", "root"),
        Finding("ok", "lockdown", "integrity"),
        Finding("ok", "addresses", "in /proc/kallsyms"),
        Finding("ok", "tracefs", "/sys/kernel/tracing"),
        Finding("ok", "bcc", "version 0.30.0"),
        Finding("ok", "module", "virtio_net, variant stock"),
        Finding("ok", "struct members", "2 offsets from BTF"),
        Finding("ok", "probes", "compile and load, against the kernel's BTF"),
        Finding("ok", "hook poll", "kprobe:b"),
        Finding("ok", "hook irq", "kprobe:c"),
        Finding("ok", "devices", "eth1 (2 queues), eth2"),
    ]
    assert loaded.unloaded


@pytest.mark.usefixtures("loaded")
def test_driver_that_is_built_in_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"module": "virtio_net", "variant": kernel.BUILT_IN}
    monkeypatch.setattr(kernel, "module_facts", lambda _: facts)
    assert Finding("ok", "module", "virtio_net, built in") in checkup.check(VIRTIO_NET)


@pytest.mark.usefixtures("loaded")
def test_what_rests_on_nothing_is_looked_at_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "require_root", _fail("this needs root; use sudo."))
    assert checkup.check(VIRTIO_NET) == [
        Finding("fail", "user", "this needs root", "use sudo."),
        Finding("ok", "bcc", "version 0.30.0"),
        Finding("ok", "module", "virtio_net, variant stock"),
    ]


@pytest.mark.parametrize(
    ("step", "last"),
    [("defines", "struct members"), ("compile_program", "probes")],
)
def test_what_rests_on_a_failure_is_left_out(
    loaded: Program, monkeypatch: pytest.MonkeyPatch, step: str, last: str
) -> None:
    monkeypatch.setattr(program, step, _fail("it does not; mend it."))
    findings = checkup.check(VIRTIO_NET)
    assert findings[-1] == Finding("fail", last, "it does not", "mend it.")
    assert not loaded.unloaded


def test_hooks_that_are_missing_say_what_a_trace_lacks(
    loaded: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = [Attached(REQUIRED, None, "no such function"), Attached(OPTIONAL, None, "refused")]
    monkeypatch.setattr(program, "attach", lambda *_, **__: nowhere)
    monkeypatch.setattr(kernel, "devices", lambda *_: [])
    assert checkup.check(VIRTIO_NET)[-3:] == [
        Finding(
            "fail", "hook poll", "none of kprobe:a, kprobe:b (no such function)", "trace on another kernel"
        ),
        Finding("warn", "hook irq", "not here, so a trace lacks receive interrupts (refused)", "", ("irqs",)),
        Finding("warn", "devices", "none is bound to this driver", "bring one up to see events"),
    ]
    assert loaded.unloaded


def test_probes_come_off_when_attaching_fails(loaded: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "attach", _fail("no."))
    with pytest.raises(UserError):
        checkup.check(VIRTIO_NET)
    assert loaded.unloaded


@pytest.mark.parametrize(
    ("check", "what"),
    [("require_no_lockdown", "lockdown"), ("require_addresses", "addresses"), ("require_tracefs", "tracefs")],
)
def test_kernel_that_refuses_probes_is_found_before_they_are_compiled(
    loaded: Program, monkeypatch: pytest.MonkeyPatch, check: str, what: str
) -> None:
    monkeypatch.setattr(kernel, check, _fail("it refuses; mend it."))
    findings = checkup.check(VIRTIO_NET)
    assert Finding("fail", what, "it refuses", "mend it.") in findings
    assert findings[-1].what == "module"
    assert not loaded.unloaded


@pytest.mark.parametrize(
    ("levels", "verdict"),
    [
        ([], "no such driver"),
        (["ok"], "fully observable"),
        (["ok", "warn"], "partly observable"),
        (["warn", "fail", "ok"], "cannot be traced"),
    ],
)
def test_worst_finding_is_the_verdict(levels: list[Any], verdict: str) -> None:
    assert checkup.verdict([Finding(level, "a", "b") for level in levels]) == verdict


def test_driver_that_a_packed_kernel_lacks_has_no_findings() -> None:
    assert checkup.check_packed(VIRTIO_NET, PackedKernel("6.1", "amd64", has_modules=True)) == []


def test_packed_kernel_without_types_is_one_sentence() -> None:
    kernel_of_5_2 = PackedKernel("5.2", "arm64", frozenset(), built_in=frozenset({"virtio_net"}))
    (finding,) = checkup.check_packed(VIRTIO_NET, kernel_of_5_2)
    assert finding == Finding(
        "fail", "types", "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)", "use a kernel that has."
    )


def test_what_is_read_of_a_packed_kernel_is_what_the_probes_need() -> None:
    modules, functions = checkup.packed_names([VIRTIO_NET])
    assert modules == {"virtio_net", "virtio_ring"}
    assert {"try_fill_recv", "warn_alloc", "napi_poll"} <= functions


#: The types of a kernel as far as core reads them, and those of a module with a queue.
CORE_TYPES: list[tuple[int, str, list[tuple[str, int, int]]]] = [
    (ENUM, "bpf_map_type", [("BPF_MAP_TYPE_HASH", 1, 0), ("BPF_MAP_TYPE_RINGBUF", 27, 0)]),
    (STRUCT, "ns_common", [("inum", 1, 64)]),
    (STRUCT, "net", [("ns", 3, 128)]),
    (STRUCT, "net_device", [("ifindex", 1, 0), ("name", 1, 32), ("nd_net", 1, 64)]),
    (STRUCT, "napi_struct", [("state", 1, 0), ("poll", 1, 64)]),
    (TYPEDEF, "btf_trace_napi_poll", []),
]
QUEUE = (STRUCT, "queue", [("napi", 1, 0)])
TABLE, STRINGS = symbols("fill", "poll.isra.0")
MODULE = elf_file(symtab=TABLE, strtab=STRINGS, BTF=section(QUEUE, base=section(*CORE_TYPES)))


def _found(packed: PackedKernel, driver: Driver) -> dict[str, Finding]:
    return {finding.what: finding for finding in checkup.check_packed(driver, packed)}


@needs_libbpf
@pytest.mark.parametrize("built_in", [False, True])
def test_packed_kernel_is_looked_through_for_members_and_hooks(built_in: bool) -> None:
    """A hook may be in the module or in the kernel; a function with a suffix is another."""
    hooks = (
        Hook("fill", ("kprobe:old_fill", "kprobe:fill"), True, ""),
        Hook("off", ("kprobe:napi_disable",), True, ""),
        Hook("poll", ("kprobe:poll",), False, "polls", ("polls",)),
    )
    fields = (Field("napi", ("queue.state", "queue.napi"), True), Field("refill", ("queue.refill",), False))
    driver = replace(VIRTIO_NET, hooks=hooks, fields=fields)
    functions = {"napi_disable", "warn_alloc", *(["fill"] if built_in else [])}
    packed = PackedKernel(
        "6.1",
        "arm64",
        frozenset(functions),
        section(*CORE_TYPES, *([QUEUE] if built_in else [])),
        {} if built_in else {"virtio_net": MODULE},
        frozenset({"virtio_net"} if built_in else ()),
        has_modules=True,
    )
    found = _found(packed, driver)
    assert found["types"].found == f"virtio_net, {'built in' if built_in else 'a module'}, with BTF"
    assert found["struct members"].level == "ok"
    assert found["struct members"].found.endswith("queue.refill")
    assert (found["hook fill"].found, found["hook off"].found) == ("kprobe:fill", "kprobe:napi_disable")
    assert found["hook rxt_poll_out"].found == "raw_tracepoint:napi_poll"
    assert (found["hook poll"].level, found["hook poll"].unknown) == ("warn", ("polls",))
    required = replace(
        driver, hooks=(replace(hooks[2], required=True),), fields=(Field("x", ("a.b",), True),)
    )
    found = _found(packed, required)
    assert "lacks a.b" in found["struct members"].found
    assert found["hook poll"].level == "fail"


@needs_libbpf
def test_packed_kernel_that_lacks_a_members_of_a_ring_is_partly_observable() -> None:
    """The probes for any driver are for its NICs, too; only what is posted is not known then."""
    ring = Ring("queue.napi", ("fill",))
    declared = replace(VIRTIO_NET, hooks=(), fields=(), ring=ring, like="generic")
    for driver, level in (
        (declared, "ok"),
        (replace(declared, ring=replace(ring, clean="queue.head")), "warn"),
    ):
        driver = replace(driver, hooks=driver.ring_hooks)
        packed = PackedKernel(
            "6.1",
            "arm64",
            frozenset({"warn_alloc"}),
            section(*CORE_TYPES),
            {"virtio_net": MODULE},
            has_modules=True,
        )
        finding = _found(packed, driver)["hook generic_ring"]
        assert finding.level == level
        if level == "warn":
            assert "lacks what is posted" in finding.found and "lacks queue.head" in finding.found
            assert finding.unknown == ("posted_min",)
        else:
            assert finding.found == "kprobe:virtio_net:fill"


@needs_libbpf
def test_packed_kernel_without_a_ring_buffer_is_one_sentence() -> None:
    packed = PackedKernel(
        "5.4", "amd64", frozenset(), section(*CORE_TYPES[1:2]), built_in=frozenset({"virtio_net"})
    )
    (finding,) = checkup.check_packed(VIRTIO_NET, packed)
    assert (finding.level, finding.found) == ("fail", "this kernel has no BPF ring buffer")
