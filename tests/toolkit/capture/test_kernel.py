# SPDX-License-Identifier: GPL-2.0-only
import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from toolkit import drivers
from toolkit.capture import kernel
from toolkit.errors import UserError

# As 6.1 prints it, and as a kernel does that spells the bits as shifts.
OLD = """print fmt: "gfp_flags=%s", (REC->gfp_flags) ? __print_flags(REC->gfp_flags, "|", \
{( unsigned long)(((((( gfp_t)(0x400u|0x800u)) | (( gfp_t)0x40u) | (( gfp_t)0x80u)) & \
~(( gfp_t)0x80u)) | (( gfp_t)0x400u))), "GFP_ODD"}, \
{( unsigned long)((( gfp_t)0x20u)|(( gfp_t)0x200u)|(( gfp_t)0x800u)), "GFP_ATOMIC"}, \
{( unsigned long)(( gfp_t)0), "__GFP_NOLOCKDEP"}) : "none\""""
NEW = '{(unsigned long)((gfp_t)((((1UL))) << (5))), "__GFP_HIGH"}, {(unsigned long)(X), "__GFP_WHAT"}'


def test_gfp_flags_of_the_tracepoint_format() -> None:
    assert kernel.read_gfp_flags(OLD) == {"GFP_ODD": 0xC40, "GFP_ATOMIC": 0xA20}


def test_gfp_flags_as_shifts_and_what_is_not_understood() -> None:
    assert kernel.read_gfp_flags(NEW) == {"__GFP_HIGH": 0x20}


def test_module_that_is_not_loaded() -> None:
    assert kernel.module_identity("no_such_module") is None
    with pytest.raises(UserError, match="no_such_module is not loaded; load it"):
        kernel.module_facts("no_such_module")


NOTES = bytes.fromhex("04000000 04000000 06000000 58656e00 00fe7803")
NOTES += bytes.fromhex("04000000 06000000 03000000 474e5500 0123456789ab 0000")


@pytest.fixture
def sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory in place of /sys."""
    for name, path in (("MODULES", "module"), ("BUSES", "bus"), ("NET", "class/net")):
        (tmp_path / path).mkdir(parents=True)
        monkeypatch.setattr(kernel, name, tmp_path / path)
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel/notes").write_bytes(NOTES)
    monkeypatch.setattr(kernel, "NOTES", tmp_path / "kernel/notes")
    return tmp_path


def test_driver_with_parameters_that_is_built_in(sysfs: Path) -> None:
    (sysfs / "module/virtio_net/parameters").mkdir(parents=True)
    (sysfs / "module/virtio_net/parameters/napi_tx").write_text("Y\n")
    assert kernel.is_built_in("virtio_net")
    assert kernel.module_identity("virtio_net") == (sysfs / "module/virtio_net").stat().st_ino
    assert kernel.module_facts("virtio_net") == {
        "module": "virtio_net",
        "srcversion": None,
        "build_id": "0123456789ab",
        "version": None,
        "variant": "built in",
        "parameters": {"napi_tx": "Y"},
    }


def test_driver_without_parameters_that_is_built_in(sysfs: Path) -> None:
    driver = sysfs / "bus/virtio/drivers/virtio_net"
    driver.mkdir(parents=True)
    assert kernel.module_identity("virtio_net") == 0
    facts = kernel.module_facts("virtio_net")
    assert (facts["variant"], facts["parameters"]) == ("built in", {})


def test_driver_of_a_module_with_another_name_is_not_built_in(sysfs: Path) -> None:
    driver = sysfs / "bus/pci/drivers/fsl_enetc"
    driver.mkdir(parents=True)
    (sysfs / "module/fsl_enetc_pf").mkdir()
    (driver / "module").symlink_to(sysfs / "module/fsl_enetc_pf")
    assert not kernel.is_built_in("fsl_enetc")
    assert kernel.module_identity("fsl_enetc") is None


@pytest.mark.usefixtures("sysfs")
def test_driver_that_a_distribution_says_is_built_in(tmp_path: Path) -> None:
    names = "kernel/drivers/net/virtio_net.ko\nkernel/drivers/net/xen-netback/xen-netback.ko\n"
    _file(tmp_path, f"lib/modules/{os.uname().release}/modules.builtin", names)
    assert kernel.is_built_in("virtio_net", tmp_path) and kernel.is_built_in("xen_netback", tmp_path)
    assert not kernel.is_built_in("qlge", tmp_path)


def test_loaded_module_is_not_built_in(sysfs: Path) -> None:
    module = sysfs / "module/virtio_net"
    (module / "notes").mkdir(parents=True)
    (module / "initstate").write_text("live\n")
    (module / "notes/.note.gnu.build-id").write_bytes(NOTES[20:])
    (module / "srcversion").write_text("6A5F\n")
    assert not kernel.is_built_in("virtio_net")
    facts = kernel.module_facts("virtio_net")
    assert (facts["variant"], facts["srcversion"], facts["build_id"]) == ("stock", "6A5F", "0123456789ab")


def test_devices_of_a_driver_that_is_built_in(sysfs: Path) -> None:
    """The link from a driver to its module is missing, as all drivers of virtio have it."""
    driver = sysfs / "bus/virtio/drivers/virtio_net"
    driver.mkdir(parents=True)
    (sysfs / "class/net/eth1/device").mkdir(parents=True)
    (sysfs / "class/net/eth1/device/driver").symlink_to(driver)
    (sysfs / "class/net/lo").mkdir()
    assert [path.name for path in kernel.bound("virtio_net")] == ["eth1"]
    assert kernel.bound("qlge") == []
    over = [{"name": "eth1"}]
    assert kernel.facts(drivers.of_any(), over)["module"] == "virtio_net"
    assert kernel.facts(drivers.of_any(), over)["variant"] == "built in"


def test_devices_and_their_queues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "NET", tmp_path / "net")
    monkeypatch.setattr(kernel, "ring_size", lambda _: None)
    for number, (name, driver) in enumerate([("eth0", "e1000e"), ("eth1", "qlge")], 2):
        bus = tmp_path / "pci" / name
        (bus / "net").mkdir(parents=True)
        (tmp_path / "drivers" / driver).mkdir(parents=True)
        (tmp_path / "drivers" / driver / "module").symlink_to(tmp_path / "module" / driver)
        (tmp_path / "module" / driver).mkdir(parents=True)
        (bus / "driver").symlink_to(tmp_path / "drivers" / driver)
        device = tmp_path / "net" / name
        for rx in (0, 1):
            (device / "queues" / f"rx-{rx}").mkdir(parents=True)
        (device / "device").symlink_to(bus)
        (device / "ifindex").write_text(f"{number}\n")
    (tmp_path / "net" / "lo").mkdir()
    (found,) = kernel.devices(drivers.load("qlge"))
    assert (found["name"], found["ifindex"], found["bus"]) == ("eth1", 3, "eth1")
    names = {queue["queue"]: queue["name"] for queue in found["queues"]}
    assert names == {0: "rx-0 sbq", 1: "rx-0 lbq", 2: "rx-1 sbq", 3: "rx-1 lbq"}
    assert kernel.devices(drivers.load("virtio_net")) == []


def test_a_device_that_is_no_nic_is_found_only_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "NET", tmp_path)
    monkeypatch.setattr(kernel, "ethtool", lambda _, request: request[:4] + b"veth".ljust(192, b"\0"))
    (tmp_path / "veth7").mkdir()
    (tmp_path / "veth7" / "ifindex").write_text("9\n")
    (tmp_path / "bonding_masters").touch()
    of_any = drivers.of_any()
    assert kernel.devices(of_any) == []
    (found,) = kernel.devices(of_any, ["veth7", "bonding_masters"])
    assert (found["ifindex"], found["name"], found["bus"]) == (9, "veth7", "")
    assert kernel.driver_of("veth7") == "veth"
    monkeypatch.setattr(kernel, "ethtool", lambda *_: None)
    assert kernel.driver_of("veth7") is None


@pytest.mark.parametrize(("queues", "times"), [(2, 1), (63, 1), (64, 2), (200, 4)])
def test_statistics_are_asked_for_until_all_queues_were_looked_at(
    queues: int, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "NET", tmp_path)
    for number in range(queues):
        (tmp_path / "eth1/queues" / f"rx-{number}").mkdir(parents=True)
    file = tmp_path / "eth1/statistics/rx_packets"
    _file(tmp_path, "eth1/statistics/rx_packets", "7\n")
    asked: list[str] = []

    def pread(descriptor: int, *_: int) -> bytes:
        asked.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        return b"7\n"

    monkeypatch.setattr(os, "pread", pread)
    with kernel.statistics() as ask:
        for _ in range(2):
            ask(["eth0", "eth1"])
    assert asked == [str(file)] * times * 2
    assert str(file) not in {str(each.resolve()) for each in Path("/proc/self/fd").iterdir()}


def test_statistics_of_a_device_that_came_again_are_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "NET", tmp_path)
    (tmp_path / "eth1/queues/rx-0").mkdir(parents=True)
    asked: list[tuple[int, int]] = []
    gone = False

    def pread(descriptor: int, *_: int) -> bytes:
        if gone:
            raise OSError(errno.ENODEV, "No such device")
        about = os.fstat(descriptor)
        asked.append((about.st_dev, about.st_ino))
        return b"7\n"

    monkeypatch.setattr(os, "pread", pread)
    with kernel.statistics() as ask:
        for gone in (False, True, False):
            if not gone:
                (tmp_path / "new").write_text("7\n")
                (tmp_path / "eth1/statistics").mkdir(exist_ok=True)
                (tmp_path / "new").replace(tmp_path / "eth1/statistics/rx_packets")
            ask(["eth1"])
    about = (tmp_path / "eth1/statistics/rx_packets").stat()
    assert len(set(asked)) == 2 and asked[-1] == (about.st_dev, about.st_ino)


def test_devices_that_a_driver_only_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "NET", tmp_path / "net")
    for number, name in enumerate(("eth1", "eth2", "eth3"), 2):
        (tmp_path / "net" / name).mkdir(parents=True)
        (tmp_path / "net" / name / "ifindex").write_text(f"{number}\n")
    for disk, text in (("e1.1", "eth1,eth2\n"), ("e1.2", "eth1\n"), ("e1.3", "none\n")):
        (tmp_path / "block" / f"etherd!{disk}").mkdir(parents=True)
        (tmp_path / "block" / f"etherd!{disk}" / "netif").write_text(text)
    driver = replace(drivers.load("aoe"), netif=f"{tmp_path}/block/etherd!*/netif")
    found = kernel.devices(driver)
    assert [(each["ifindex"], each["name"], each["driver"]) for each in found] == [
        (2, "eth1", "aoe"),
        (3, "eth2", "aoe"),
    ]
    assert [each["queues"] for each in found] == [[], []]


def test_clocks_are_of_one_moment() -> None:
    clocks = kernel.clocks()
    assert clocks["boottime_ns"] >= clocks["monotonic_ns"]


def test_root_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UserError, match="sudo"):
        kernel.require_root()


def _file(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("text", "level"),
    [("[none] integrity confidentiality\n", "none"), ("none [integrity] confidentiality\n", "integrity")],
)
def test_lockdown_that_lets_probes_be(tmp_path: Path, text: str, level: str) -> None:
    _file(tmp_path, "sys/kernel/security/lockdown", text)
    assert kernel.require_no_lockdown(tmp_path) == level


def test_lockdown_that_refuses_probes_is_one_sentence(tmp_path: Path) -> None:
    assert "not known" in kernel.require_no_lockdown(tmp_path)
    _file(tmp_path, "sys/kernel/security/lockdown", "none integrity [confidentiality]\n")
    with pytest.raises(UserError, match=r"locked down .* boot it without lockdown=confidentiality"):
        kernel.require_no_lockdown(tmp_path)


SHOWN = "0000000000000000 A fixed_percpu_data\nffffffff81000000 T _stext\n"
HIDDEN = "0000000000000000 A fixed_percpu_data\n0000000000000000 T _stext\n"


KALLSYMS = b"""0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000100 t napi_enable
ffffffff81000100 T napi_alias
ffffffff81000200 T napi_disable
ffffffff81000300 D jiffies
ffffffffc0300040 t fill\t[e1000e]
ffffffffc0100040 t fill\t[igb]
ffffffffc0100000 d table\t[igb]
ffffffffc0100080 t poll.isra.0\t[igb]
"""


def test_functions_have_addresses_and_addresses_functions() -> None:
    functions = kernel.Functions(KALLSYMS)
    assert functions.address("napi_disable") == 0xFFFFFFFF81000200
    assert functions.address("fill") == 0xFFFFFFFFC0300040
    assert "napi_disable" in functions and "napi" not in functions and "disable" not in functions
    for address, name in {
        0xFFFFFFFF81000000: "_stext",
        0xFFFFFFFF810000FF: "_stext",
        0xFFFFFFFF81000101: "napi_enable",
        0xFFFFFFFF81000200: "napi_disable",
        0xFFFFFFFF81000300: None,
        0xFFFFFFFF9FFFFFFF: None,
        0xFFFFFFFFC0100041: "fill",
        0xFFFFFFFFC0100090: "poll.isra.0",
        0xFFFFFFFFC0300040: "fill",
    }.items():
        assert functions.at(address) == name, hex(address)
    assert kernel.Functions(KALLSYMS[KALLSYMS.index(b"ffff") :]).at(0x1000) is None


def test_address_beyond_the_end_of_a_module_is_in_none_that_is_known() -> None:
    """Nor in a BPF program, of which is not known where it ends; a trampoline ends with its page."""
    text = KALLSYMS + b"ffffffffc0400000 t bpf_prog_7_f\t[bpf]\nffffffffc0500000 t bpf_trampoline_1\t[bpf]\n"
    modules = b"igb 4096 0 - Live 0xffffffffc0100000\ne1000e 8192 1 igb, Live 0xffffffffc0300000 (OE)\n"
    functions = kernel.Functions(text, modules)
    for address, name in {
        0xFFFFFFFFC0100FFF: "poll.isra.0",
        0xFFFFFFFFC0101000: None,
        0xFFFFFFFFC02FFFFF: None,
        0xFFFFFFFFC0301FFF: "fill",
        0xFFFFFFFFC0302000: None,
        0xFFFFFFFFC0400000: None,
        0xFFFFFFFFC0500FFF: "bpf_trampoline_1",
        0xFFFFFFFFC0501000: None,
    }.items():
        assert functions.at(address) == name, hex(address)


def test_functions_of_this_kernel_are_found_at_their_addresses() -> None:
    functions = kernel.functions()
    for name in ("napi_enable", "napi_disable", "warn_alloc"):
        address = functions.address(name)
        assert address is not None
        if not address:
            pytest.skip("addresses are hidden here")
        assert functions.at(address) == functions.at(address + 3)


def test_online_cpus_are_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert 0 in kernel.online_cpus()
    (tmp_path / "online").write_text("0-2,5\n")
    monkeypatch.setattr(kernel, "_CPUS", tmp_path / "online")
    assert kernel.online_cpus() == [0, 1, 2, 5]


def test_addresses_that_are_shown(tmp_path: Path) -> None:
    _file(tmp_path, "proc/kallsyms", SHOWN)
    kernel.require_addresses(tmp_path)


@pytest.mark.parametrize(
    ("symbols", "restrict", "sentence"),
    [
        (HIDDEN, "2\n", r"kptr_restrict is 2, .*; run sysctl kernel\.kptr_restrict=1"),
        (HIDDEN, "1\n", "hidden from this process; give its container CAP_SYSLOG"),
        ("", "0\n", "cannot be read, or is empty; use a kernel with CONFIG_KALLSYMS"),
    ],
)
def test_addresses_that_are_hidden_are_one_sentence(
    tmp_path: Path, symbols: str, restrict: str, sentence: str
) -> None:
    _file(tmp_path, "proc/kallsyms", symbols)
    _file(tmp_path, "proc/sys/kernel/kptr_restrict", restrict)
    with pytest.raises(UserError, match=sentence):
        kernel.require_addresses(tmp_path)


def test_tracefs_that_is_not_mounted_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "sys/kernel/tracing").mkdir(parents=True)
    with pytest.raises(UserError, match="tracefs is not mounted; run mount -t tracefs"):
        kernel.require_tracefs(tmp_path)
    (tmp_path / "sys/kernel/tracing/events").mkdir()
    assert kernel.require_tracefs(tmp_path) == "/sys/kernel/tracing"


def test_a_copy_of_a_function_is_the_only_one() -> None:
    functions = kernel.Functions(
        b"ffffffff81000000 t refill.isra.0\n"
        b"ffffffff81000010 t twice.isra.0\n"
        b"ffffffff81000020 t twice.constprop.0\n"
        b"ffffffff81000030 t refill_slow.isra.0\n"
        b"ffffffffc0001000 t mine.constprop.0.isra.1\t[mydrv]\n"
        b"ffffffffc0001010 t mine.part.0\t[mydrv]\n"
    )
    assert functions.copy("refill") == ("refill.isra.0", "")
    assert functions.copy("mine") == ("mine.constprop.0.isra.1", "mydrv")
    assert functions.copy("twice") is None and functions.copy("re") is None
