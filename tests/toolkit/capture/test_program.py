# SPDX-License-Identifier: GPL-2.0-only
"""Of program.py. A long file: each way in which a kernel or a bcc may differ is a test of its own."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from toolkit import drivers
from toolkit.capture import headers, kernel, program
from toolkit.capture.program import Macros
from toolkit.driver import Driver, Field, Hook
from toolkit.errors import UserError

VIRTIO_NET = drivers.load("virtio_net")
FIELDS = VIRTIO_NET.fields


@pytest.mark.parametrize(
    ("driver", "attached", "regime"),
    [
        ("virtio_net", {"virtnet_refill_work_in"}, "delayed work, NAPI off"),
        ("virtio_net", set(), "NAPI repoll"),
        ("qlge", {"qlge_slow_refill_in"}, "workqueue fallback"),
    ],
)
def test_regime_follows_from_what_was_attached(driver: str, attached: set[str], regime: str) -> None:
    assert program.regime(drivers.load(driver), attached) == regime


class Kernel:
    """The symbols of a kernel, and what bcc's BPF attaches to them; `broken` ones refuse."""

    def __init__(self, *symbols: str, broken: str = "") -> None:
        self.symbols = symbols
        self.attached: list[tuple[str, str, str]] = []
        self.kprobe_fds: dict[str, int] = {}
        self.raw_tracepoint_fds: dict[str, int] = {}
        self._broken = broken

    def ksymname(self, name: str) -> int:
        return 0xFFFF_8000_0000_0000 if name in self.symbols else -1

    def attach_kprobe(self, *, event: str, fn_name: str) -> None:
        self._attach("kprobe", event, fn_name)
        self.kprobe_fds[f"p_{event}"] = 3

    def attach_kretprobe(self, *, event: str, fn_name: str) -> None:
        self._attach("kretprobe", event, fn_name)
        self.kprobe_fds[f"r_{event}"] = 4

    def attach_raw_tracepoint(self, *, tp: str, fn_name: str) -> None:
        self._attach("raw_tracepoint", tp, fn_name)
        self.raw_tracepoint_fds[tp] = 5

    def detach_kprobe_event(self, name: str) -> None:
        del self.kprobe_fds[name]

    def detach_raw_tracepoint(self, name: str) -> None:
        del self.raw_tracepoint_fds[name]

    def _attach(self, kind: str, name: str, function: str) -> None:
        if name == self._broken:
            # As libbpf does: the reason goes to stderr, past Python.
            os.write(2, b"noise\n  libbpf: error: kprobe is refused\n")
            raise Exception("Failed to attach")
        self.attached.append((kind, name, function))


def _kernel(monkeypatch: pytest.MonkeyPatch, *symbols: str, broken: str = "") -> Kernel:
    found = Kernel(*symbols, broken=broken)
    monkeypatch.setattr(program, "bcc", lambda: SimpleNamespace(BPF=found))
    return found


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
    monkeypatch.setattr(Path, "read_text", lambda path: about if path == Path("/proc/self/fdinfo/9") else "")
    bpf = SimpleNamespace(funcs={b"poll_in": SimpleNamespace(fd=9)})
    assert program.misses(bpf) == found


def test_a_function_may_be_that_of_one_module(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = _kernel(monkeypatch, "alloc_rx_buffers")
    hook = Hook("fill_in", ("kprobe:e1000e:alloc_rx_buffers",), True, "")
    (attached,) = program.attach(kernel, [hook])
    assert attached.at == "kprobe:e1000e:alloc_rx_buffers"
    assert kernel.attached == [("kprobe", "e1000e:alloc_rx_buffers", "fill_in")]


@pytest.mark.parametrize(("there", "regime"), [("qlge_retry_refill", "timer"), ("other", "none")])
def test_regime_follows_from_a_function_that_is_there(
    there: str, regime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _kernel(monkeypatch, there)
    assert program.regime(drivers.load("qlge"), set()) == regime


def test_hook_goes_to_the_first_candidate_that_the_kernel_has(monkeypatch: pytest.MonkeyPatch) -> None:
    bpf = _kernel(monkeypatch, "new_name", "old_name", "f")
    hooks = [
        Hook("a", ("kprobe:newest_name", "kprobe:new_name", "kprobe:old_name"), True, ""),
        Hook("b", ("kretprobe:f",), True, ""),
        Hook("c", ("raw_tracepoint:kfree_skb",), True, ""),
    ]
    found = program.attach(bpf, hooks)
    assert [each.at for each in found] == ["kprobe:new_name", "kretprobe:f", "raw_tracepoint:kfree_skb"]
    assert bpf.attached == [
        ("kprobe", "new_name", "a"),
        ("kretprobe", "f", "b"),
        ("raw_tracepoint", "kfree_skb", "c"),
    ]
    program.detach(bpf)
    assert bpf.kprobe_fds == bpf.raw_tracepoint_fds == {}


def test_probes_come_off_when_tracefs_is_gone() -> None:
    """bcc closes a probe first, and then fails to look for it in tracefs."""
    closed = []

    def detach(name: str) -> None:
        closed.append(name)
        raise Exception("Failed to detach BPF from kprobe")

    bpf = SimpleNamespace(
        kprobe_fds={"p_a": {}, "r_b": {}},
        raw_tracepoint_fds={"napi_poll": 3},
        detach_kprobe_event=detach,
        detach_raw_tracepoint=detach,
    )
    program.detach(bpf)
    assert closed == ["p_a", "r_b", "napi_poll"]


def _import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    """Let this be what `import bcc` finds."""
    (tmp_path / "bcc.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "bcc", raising=False)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "raise OSError('libclang-14.so.13: cannot open shared object file')",
            r"bcc's library cannot be loaded \(libclang-14.so.13: cannot open .*; install what it needs",
        ),
        ("raise ImportError('no module named bcc')", r"make the virtual environment with /usr/bin/python3"),
        ("version = 1", r"the module bcc in .*bcc\.py is another project's; uninstall it"),
    ],
)
def test_bcc_that_cannot_be_used_is_one_sentence(
    text: str, sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _import(monkeypatch, tmp_path, text)
    with pytest.raises(UserError, match=sentence):
        program.bcc()


def test_bcc_of_another_python_is_named(tmp_path: Path) -> None:
    assert "apt install python3-bpfcc" in program._without_bcc("no bcc", tmp_path)
    there = tmp_path / "usr/lib/python3/dist-packages/bcc"
    there.mkdir(parents=True)
    (there / "__init__.py").touch()
    said = program._without_bcc("no bcc", tmp_path)
    assert f"(/usr/lib/python3/dist-packages/bcc), but this is {sys.executable}" in said


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
    bpf = _kernel(monkeypatch, *symbols)
    places = ("kprobe:new_name", "kretprobe:old_name")
    hook = Hook("new_in", places, True, "", programs={"kretprobe:old_name": "old_in"})
    (attached,) = program.attach(bpf, [hook])
    assert attached.at == place
    assert bpf.attached == [(*place.split(":"), program_there)]
    with pytest.raises(UserError, match="none of kprobe:new_name, kretprobe:old_name"):
        program.attach(_kernel(monkeypatch), [hook])


def test_hook_that_is_refused_says_why_and_the_next_is_tried(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bpf = _kernel(monkeypatch, "first", "second", broken="first")
    both, alone = (
        Hook("a", ("kprobe:first", "kprobe:second"), True, ""),
        Hook("b", ("kprobe:first",), False, ""),
    )
    one, two = program.attach(bpf, [both, alone])
    assert (one.at, one.why) == ("kprobe:second", "")
    assert (two.at, two.why) == (None, "libbpf: error: kprobe is refused")
    # It would run into the display.
    assert capfd.readouterr().err == ""


def test_required_hook_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    bpf = _kernel(monkeypatch)
    hooks = [Hook("a", ("kprobe:x", "kprobe:y"), True, ""), Hook("b", ("kprobe:z",), False, "interrupts")]
    with pytest.raises(UserError, match="none of kprobe:x, kprobe:y, which the probes need"):
        program.attach(bpf, hooks)
    assert [each.at for each in program.attach(bpf, hooks, strict=False)] == [None, None]
    assert [each.at for each in program.attach(bpf, hooks[1:])] == [None]


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
    path = "vring_virtqueue.split.vring.num"
    known = {"virtio_net": dict.fromkeys((path for field in FIELDS for path in field.of), 8)}
    known["virtio_ring"] = {path: 96}

    @contextmanager
    def module_btf(module: str) -> Iterator[Any]:
        yield SimpleNamespace(resolve=known[module].get)

    monkeypatch.setattr(program, "module_btf", module_btf)
    for own, offset in ((False, 8), (True, 96)):
        monkeypatch.setattr(kernel, "has_btf", lambda _, own=own: own)
        assert program.fields(VIRTIO_NET)["OFF_vring_num"] == offset


def test_missing_member_is_named_if_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    _btf(monkeypatch, {})
    required = ", ".join(" or ".join(field.of) for field in FIELDS if field.required)
    with pytest.raises(UserError) as error:
        program.fields(VIRTIO_NET)
    assert str(error.value).startswith(f"virtio_net: this kernel's BTF lacks {required};")


def test_macros_are_options_addresses_and_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    qlge = drivers.load("qlge")
    _kernel(monkeypatch, VIRTIO_NET.poll)
    offsets = {"virtio_net": {"OFF_napi": 8}, "qlge": {"OFF_napi": 16}}
    monkeypatch.setattr(program, "fields", lambda driver: offsets[driver.name])
    monkeypatch.setattr(program, "core_fields", lambda: {"OFF_netdev_name": 24})
    monkeypatch.setattr(kernel, "gfp_flags", lambda: {"__GFP_DIRECT_RECLAIM": 0x400})
    macros = program.defines(
        [VIRTIO_NET, qlge], ring=8 << 20, full=True, only_devices=True, only_queues=False
    )
    assert macros.local == offsets
    found = macros.common
    assert found["OFF_netdev_name"] == 24 and "OFF_napi" not in found
    assert (found["DRIVER_virtio_net"], found["DRIVER_qlge"]) == (0, 1)
    assert found["RXT_GFP_DIRECT_RECLAIM"] == "0x400" and found["RXT_GFP_NORETRY"] == "0x0"
    assert found[f"POLL_{VIRTIO_NET.name}"] == "0xffff800000000000ULL"
    assert found["RXT_RING_PAGES"] == 2048 and found["RXT_CPUS"] == program.cpus()
    assert "RXT_DETAIL_FULL" in found and "RXT_ONLY_DEVICES" in found and "RXT_ONLY_QUEUES" not in found


def test_cpu_numbers_are_below_the_number_of_cpus() -> None:
    present = [int(path.name[3:]) for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*")]
    assert max(present) < program.cpus()


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two places of headers that need no kernel."""
    for name, title in (("from_btf", "the kernel's BTF"), ("from_distribution", "the headers in /headers")):
        found = headers.Headers(title, [f"-I{name}"])
        monkeypatch.setattr(headers, name, lambda found=found: nullcontext(found))


@pytest.mark.usefixtures("sources")
def test_compiled_text_is_the_core_and_each_driver_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(program, "bcc", lambda: SimpleNamespace(BPF=lambda **words: made.append(words)))
    _, title = program.compile_program([VIRTIO_NET], Macros({"RXT_CPUS": 4}, {}))
    (words,) = made
    assert title == "the kernel's BTF"
    assert words["cflags"][0] == "-Ifrom_btf"
    lines = [line for line in words["text"].splitlines() if line.startswith("#line")]
    core = [f'core/{path.name}"' for path in drivers.core_sources()]
    assert [line.split("probes/")[1] for line in lines] == [*core, 'virtio_net/probe.c"']
    assert "-DRXT_CPUS=4" in words["cflags"]


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


@pytest.mark.usefixtures("sources")
def test_headers_of_the_distribution_come_second(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_(cflags: list[str], **_: object) -> str:
        if "-Ifrom_btf" in cflags:
            raise Exception("Failed to compile BPF module")
        return "program"

    monkeypatch.setattr(program, "bcc", lambda: SimpleNamespace(BPF=compile_))
    assert program.compile_program([VIRTIO_NET], Macros({}, {})) == ("program", "the headers in /headers")


@pytest.mark.usefixtures("sources")
def test_program_that_does_not_compile_is_told_by_the_compilers_first_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def compile_(**_: object) -> None:
        os.write(2, b"warning: x\nprobe.c:7: error: no member named 'rq'\nprobe.c:9: error: more\n")
        raise Exception("Failed to compile BPF module")

    monkeypatch.setattr(program, "bcc", lambda: SimpleNamespace(BPF=compile_))
    with pytest.raises(UserError) as error:
        program.compile_program([VIRTIO_NET], Macros({}, {}))
    why = "probe.c:7: error: no member named 'rq'"
    assert f"against the kernel's BTF: {why}; against the headers in /headers: {why}." in str(error.value)
