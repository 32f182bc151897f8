# SPDX-License-Identifier: GPL-2.0-only
"""How a trace begins and ends on a real kernel, and what a mistake is answered with."""

import json
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

import toolkit
from tests.machine.harness.lab import Lab, fetch
from tests.machine.test_virtio_net import received
from toolkit.capture import compiled
from toolkit.commands.trace import FLUSH_S
from toolkit.errors import UserError
from toolkit.stalls.analysis import analyze, summary
from toolkit.trace.reader import TraceReader
from vm import guest, trial
from vm.qemu.command import mac
from vm.wire import frames, sender

pytestmark = pytest.mark.machine("virtio-net")


@pytest.fixture
def machine(lab: Lab) -> guest.Guest:
    """The plain machine, with the distribution's driver, and nothing traced."""
    found = lab.boot("virtio-net")
    lab.load(found, "stock")
    lab.end_trace(found)
    return found


def ended(path: Path) -> str:
    """Why a trace ended."""
    return str(summary(analyze(path))["reason"])


def fails(machine: guest.Guest, command: str, sentence: str) -> None:
    """The command ends with one sentence on stderr, no traceback and a status that is not 0."""
    done = machine.ssh(command, timeout=300)
    assert done.returncode not in (0, 255), done.stdout
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("toolkit: error: "), done.stderr
    assert sentence in last


def test_doctor_finds_everything(machine: guest.Guest) -> None:
    done = machine.ssh("sudo toolkit doctor virtio_net --json", check=True)
    findings = json.loads(done.stdout)["virtio_net"]
    assert {finding["level"] for finding in findings} == {"ok"}, findings
    assert "fully observable" in machine.ssh("sudo toolkit doctor virtio_net").stdout


def test_doctor_without_root_says_so(machine: guest.Guest) -> None:
    done = machine.ssh("toolkit doctor virtio_net --json")
    assert done.returncode == 1
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)["virtio_net"]}
    assert findings["user"]["level"] == "fail"
    assert "sudo" in findings["user"]["mend"]


def test_trace_ends_after_its_duration_and_says_what_it_was_taken_on(
    machine: guest.Guest, tmp_path: Path
) -> None:
    machine.ssh("sudo toolkit trace virtio_net --duration 1 -o /var/tmp/a.rxt --force", check=True)
    assert machine.ssh("stat -c %a /var/tmp/a.rxt").stdout.strip() == "600"
    path = fetch(machine, "/var/tmp/a.rxt", tmp_path / "a.rxt")
    assert ended(path) == "duration"
    meta = TraceReader(path).meta
    assert meta["kernel"] == machine.ssh("uname -r").stdout.strip()
    driver = meta["drivers"][0]
    note = machine.ssh("od -An -tx1 -v /sys/module/virtio_net/notes/.note.gnu.build-id | tr -d ' \\n'")
    assert len(driver["build_id"]) == 40
    assert note.stdout.endswith(driver["build_id"])
    assert (driver["name"], driver["variant"]) == ("virtio_net", "stock")
    assert driver["regime"] == "delayed work, NAPI off"
    assert all(hook["attached"] for hook in driver["hooks"])
    assert meta["headers"] == "the kernel's BTF"
    assert meta["gfp_flags"]["GFP_ATOMIC"] == 0xA20
    (device,) = meta["devices"]
    assert (device["name"], len(device["queues"]), device["queues"][0]["size"]) == ("eth1", 1, 256)


def test_command_ends_its_trace_and_passes_its_status_on(machine: guest.Guest, tmp_path: Path) -> None:
    """The command runs as root, and the OOM killer may take it as it may take any other."""
    command = "sh -c 'id -u; cat /proc/self/oom_score_adj; exit 7'"
    done = machine.ssh(f"sudo toolkit trace virtio_net -o /var/tmp/c.rxt --force -- {command}")
    assert (done.returncode, done.stdout) == (7, "0\n0\n")
    assert ended(fetch(machine, "/var/tmp/c.rxt", tmp_path / "c.rxt")) == "command"


def test_each_signal_has_its_meaning(machine: guest.Guest, tmp_path: Path) -> None:
    """SIGUSR1 goes on in a new file, and no packet is in two of them or in none; SIGTERM ends the trace."""
    machine.ssh("sudo rm -f /var/tmp/s*.rxt")
    before = received(machine, "eth1")
    with trial.tracing(machine, "virtio_net", "/var/tmp/s.rxt") as tracing:
        with trial.wire(machine, trial.Traffic(), tmp_path / "w.json"):
            files = []
            for _ in range(3):
                time.sleep(1)
                files.append(tracing.cut())
        machine.ssh(f"sudo kill -TERM {tracing.pid}", check=True)
    assert files == ["/var/tmp/s.rxt", "/var/tmp/s-2.rxt", "/var/tmp/s-3.rxt"]
    files.append("/var/tmp/s-4.rxt")
    paths = [fetch(machine, file, tmp_path / Path(file).name) for file in files]
    assert [ended(path) for path in paths] == ["rotated", "rotated", "rotated", "interrupt"]
    parts = [summary(analyze(path)) for path in paths]
    assert all(part["ledger"]["attempted"] == part["ledger"]["delivered"] for part in parts)
    packets = [sum(queue["packets"] for queue in part["queues"]) for part in parts]
    assert sum(packets) == received(machine, "eth1") - before
    assert min(packets[:3]) > 1000


def frames_for(machine: guest.Guest, count: int, rate: float) -> None:
    """Send some frames to eth1."""
    with sender.connect(machine.wire(0)) as wire:
        sender.send(wire, frames.to_ports(200, [9000], dst_mac=mac(0)), rate=rate, count=count)


def arrived_since(machine: guest.Guest, before: int) -> int:
    """Return how many packets eth1 has received since, once no more come."""
    last, now = -1, received(machine, "eth1")
    while now != last:
        time.sleep(0.5)
        last, now = now, received(machine, "eth1")
    return now - before


def packets_of(path: Path) -> int:
    return int(analyze(path).queues["packets"].sum())


def written_of(machine: guest.Guest, path: str, target: Path) -> int:
    """Return how many packets are in a trace on a machine's disk, once there are some, while it goes on."""
    packets = 0
    while not packets:
        time.sleep(0.5)
        machine.ssh(f"sudo cp {path} /var/tmp/copy.rxt", check=True)
        # Not even its beginning may be on the disk yet.
        with suppress(UserError):
            packets = packets_of(fetch(machine, "/var/tmp/copy.rxt", target))
    return packets


def test_killed_trace_opens_up_to_its_last_batch(machine: guest.Guest, tmp_path: Path) -> None:
    machine.ssh("sudo rm -f /var/tmp/k.rxt")
    with (
        pytest.raises(UserError, match="the trace failed"),
        trial.tracing(machine, "virtio_net", "/var/tmp/k.rxt") as tracing,
    ):
        frames_for(machine, 8000, 2000)
        written = written_of(machine, "/var/tmp/k.rxt", tmp_path / "written.rxt")
        machine.ssh(f"sudo kill -KILL {tracing.pid}", check=True)
    path = fetch(machine, "/var/tmp/k.rxt", tmp_path / "k.rxt")
    found = summary(analyze(path))
    assert not found["complete"]
    assert packets_of(path) >= written
    done = subprocess.run(
        [sys.executable, "-m", "toolkit", "analyze", str(path), "-o", str(tmp_path / "out")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3
    assert "cut off" in done.stderr


def test_module_unload_ends_a_trace(machine: guest.Guest, tmp_path: Path) -> None:
    machine.ssh("sudo rm -f /var/tmp/m.rxt")
    try:
        with trial.tracing(machine, "virtio_net", "/var/tmp/m.rxt") as tracing:
            machine.ssh("sudo rmmod virtio_net", check=True)
            ended_by_itself = f"while sudo kill -0 {tracing.pid} 2>/dev/null; do sleep 0.2; done"
            machine.ssh(f"timeout 60 sh -c '{ended_by_itself}'", check=True)
        assert ended(fetch(machine, "/var/tmp/m.rxt", tmp_path / "m.rxt")) == "module unloaded"
        fails(machine, "sudo toolkit trace virtio_net -o /var/tmp/n.rxt", "virtio_net is not loaded")
    finally:
        machine.ssh("sudo modprobe virtio_net && sleep 1 && sudo rx-stall-nic eth1", check=True)


def test_full_disk_keeps_what_was_written(machine: guest.Guest, tmp_path: Path) -> None:
    before = received(machine, "eth1")
    machine.ssh("sudo mkdir -p /mnt/tiny && sudo mount -t tmpfs -o size=2m tmpfs /mnt/tiny", check=True)
    try:
        with (
            pytest.raises(UserError, match="no space left"),
            trial.tracing(machine, "virtio_net", "/mnt/tiny/f.rxt", options=["--detail", "full"]),
        ):
            frames_for(machine, 4000, 2000)
            written = written_of(machine, "/mnt/tiny/f.rxt", tmp_path / "written.rxt")
            machine.ssh("sudo dd if=/dev/zero of=/mnt/tiny/fill bs=4k 2>/dev/null")
            frames_for(machine, 1000, 5000)
            time.sleep(FLUSH_S + 1)
        arrived = arrived_since(machine, before)
        path = fetch(machine, "/mnt/tiny/f.rxt", tmp_path / "f.rxt")
    finally:
        machine.ssh("sudo umount /mnt/tiny")
    found = summary(analyze(path))
    assert not found["complete"]
    assert 0 < written <= packets_of(path) < arrived


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("toolkit trace virtio_net", "needs root"),
        ("sudo toolkit trace e1001", "unknown driver 'e1001'; known are:"),
        ("sudo toolkit trace virtio_net -d eth7", "no device 'eth7'"),
        ("sudo toolkit trace virtio_net -d eth0", "no device 'eth0'"),
        ("sudo toolkit trace virtio_net -q 5", "no queue 5"),
        ("sudo toolkit trace virtio_net --detail half", "normal or full"),
        ("sudo toolkit trace virtio_net -o /nowhere/x.rxt", "/nowhere"),
        ("sudo toolkit trace virtio_net -o /etc/hostname", "exists"),
    ],
)
def test_mistake_is_one_sentence(machine: guest.Guest, command: str, sentence: str) -> None:
    fails(machine, command, sentence)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.machine(kind))
        for kind in ("virtio-net", "virtio-net-trixie", "virtio-net-backports")
    ],
)
def test_trace_needs_no_header_package(lab: Lab, kind: str, tmp_path: Path) -> None:
    """On three kernels, each with its own bcc; the packages' files are away."""
    machine = lab.boot(kind)
    lab.end_trace(machine)
    machine.ssh("sudo mount -t tmpfs tmpfs /usr/src", check=True)
    try:
        assert machine.ssh("test -e /lib/modules/$(uname -r)/build/Makefile").returncode == 1
        machine.ssh(f"sudo rm -rf {compiled.DIRECTORY}", check=True)
        done = machine.ssh("sudo toolkit doctor virtio_net", timeout=300)
        assert "probes: compile and load, against the kernel's BTF" in done.stdout, done.stdout
        before = received(machine, "eth1")
        with trial.tracing(machine, "virtio_net", "/var/tmp/h.rxt", options=["--force"]):
            frames_for(machine, 2000, 2000)
            arrived = arrived_since(machine, before)
    finally:
        machine.ssh("sudo umount /usr/src", check=True)
    found = summary(analyze(fetch(machine, "/var/tmp/h.rxt", tmp_path / "h.rxt")))
    assert found["complete"]
    assert sum(queue["packets"] for queue in found["queues"]) == arrived > 0


#: Puts a probe on a function of which there is only a changed copy that has its arguments, and on one whose
#: copy may have others. Prints of each the copy, where the probe is, and why it is not.
COPIES = """
import itertools, json, re
from pathlib import Path
from toolkit.capture import kernel, loader, program
from toolkit.capture.compiled import Compiled
from toolkit.driver import Hook

functions = kernel.functions()
traceable = Path("/sys/kernel/tracing/available_filter_functions").read_text()
names = (name for name in re.findall(r"^(\\w+)\\.(?:isra|constprop)\\.\\d+$", traceable, re.MULTILINE))
copied = ((name, functions.copy(name)) for name in names if name not in functions)
copies = [(name, *copy) for name, copy in itertools.islice(copied, 50) if copy]
chosen = [
    next(each for each in copies if program._has_type(each[0], each[2]) == typed) for typed in (True, False)
]
leave = bytes([0xB7, 0, 0, 0, 0, 0, 0, 0]) + bytes([0x95]) + bytes(7)
bpf = loader.load(Compiled("", "GPL", [], {"nothing": leave}), {})
hooks = [Hook("nothing", (f"kprobe:{name}",), False, "") for name, _, _ in chosen]
found = program.attach(bpf, hooks, functions)
print(json.dumps([(copy, each.at, each.why) for (_, copy, _), each in zip(chosen, found)]))
"""


@pytest.mark.machine("virtio-net-backports")
def test_a_probe_goes_to_a_copy_that_has_the_arguments(lab: Lab) -> None:
    machine = lab.boot("virtio-net-backports")
    said = machine.ssh(f"{guest.PYTHON} -", check=True, stdin=COPIES, timeout=300).stdout
    (copy, at, _), (other, nowhere, why) = json.loads(said)
    assert at == f"kprobe:{copy}"
    assert (nowhere, why) == (None, f"there is {other} only, whose arguments may be others")


@pytest.mark.machine("virtio-net-trixie")
def test_what_a_driver_counts_for_each_queue_is_what_came(lab: Lab) -> None:
    """virtio_net of Linux 6.12 tells it by netlink; of frames that were lost it knows nothing."""
    machine = lab.boot("virtio-net-trixie")
    ask = "import json; from toolkit.capture import qstats; print(json.dumps(qstats.read('eth1')))"
    command = f"{guest.PYTHON} -c {shlex.quote(ask)}"
    before, counted = received(machine, "eth1"), json.loads(machine.ssh(command, check=True).stdout)
    frames_for(machine, 500, 2000)
    arrived = arrived_since(machine, before)
    (queue,) = json.loads(machine.ssh(command, check=True).stdout).items()
    assert queue[0] == "0" and queue[1]["rx-packets"] - counted["0"]["rx-packets"] == arrived > 0


def test_trace_in_a_privileged_container(machine: guest.Guest, tmp_path: Path) -> None:
    """It has the host's /sys and network, namespaces of its own else, and nothing of a kernel's package."""
    hide = "for each in /usr/lib/modules /usr/src /boot; do mount -t tmpfs none $each; done"
    inside = f'mount -t proc proc /proc; {hide}; hostname container; exec "$0" "$@"'
    container = f"sudo unshare --mount --pid --fork --ipc --uts --cgroup sh -c '{inside}'"
    look = machine.ssh(f"{container} sh -c 'echo $$; ls /lib/modules /usr/src /boot; hostname'", check=True)
    assert look.stdout.split() == ["1", "/boot:", "/lib/modules:", "/usr/src:", "container"]
    done = machine.ssh(f"{container} toolkit doctor virtio_net", timeout=300)
    assert "virtio_net: fully observable" in done.stdout, done.stdout
    there, before = "/var/tmp/container.rxt", received(machine, "eth1")
    wait = "rm -f /var/tmp/sent; until test -e /var/tmp/sent; do sleep 0.2; done"
    command = f'{container} toolkit trace -d eth1 --force -o {there} -- sh -c "{wait}"'
    with machine.popen(command, stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        assert any(line.startswith("tracing ") for line in process.stderr)
        frames_for(machine, 2000, 1000)
        arrived = arrived_since(machine, before)
        machine.ssh("sudo touch /var/tmp/sent", check=True)
        assert process.wait(60) == 0
    found = summary(analyze(fetch(machine, there, tmp_path / "container.rxt")))
    assert found["complete"]
    assert sum(queue["packets"] for queue in found["queues"]) == arrived > 0


#: Another tracer's kprobe, whose program runs long, on a system call that each CPU makes again and again. It
#: ends with its input.
BUSY_KPROBE = '''
import os, sys
from bcc import BPF

bpf = BPF(text="""int busy(struct pt_regs *ctx)
{
	u64 now = 0;

	#pragma unroll
	for (int i = 0; i < 400; i++)
		now += bpf_ktime_get_ns();
	return now == 1;
}""")
bpf.attach_kprobe(event=bpf.get_syscall_fnname("getppid"), fn_name="busy")
callers = []
for cpu in range(os.cpu_count()):
    caller = os.fork()
    if not caller:
        os.sched_setaffinity(0, {cpu})
        while True:
            os.getppid()
    callers.append(caller)
print("busy", flush=True)
sys.stdin.read()
for caller in callers:
    os.kill(caller, 9)
'''


@pytest.mark.machine("virtio-net-trixie")
def test_calls_of_probes_that_the_kernel_skips_are_counted(lab: Lab, tmp_path: Path) -> None:
    """Interrupts come while another tracer's kprobe is at work, and the probes of ours are skipped then."""
    machine = lab.boot("virtio-net-trixie")
    lab.end_trace(machine)
    there = "/var/tmp/skipped.rxt"
    with machine.popen(f"{guest.PYTHON} -c {shlex.quote(BUSY_KPROBE)}", stderr=None) as busy:
        assert busy.stdin and busy.stdout
        assert busy.stdout.readline() == "busy\n"
        with (
            trial.tracing(machine, "virtio_net", there, options=["--force"]),
            trial.wire(machine, trial.Traffic(), tmp_path / "w.json"),
        ):
            time.sleep(3)
        busy.stdin.close()
    trace = toolkit.read(fetch(machine, there, tmp_path / "skipped.rxt"))
    missed = trace.summary["missed"]
    assert missed and sum(missed.values()) > 0
    assert trace.verdict.startswith("The kernel skipped calls of probes: that no stall was seen on eth1")


def test_headers_of_the_distribution_are_the_fall_back(machine: guest.Guest) -> None:
    own = "/opt/toolkit/src/probes/headers"
    machine.ssh(f"sudo mv {own} {own}.away", check=True)
    try:
        done = machine.ssh("sudo toolkit doctor virtio_net", timeout=300)
        assert "probes: compile and load, against the headers in /lib/modules/" in done.stdout, done.stdout
        machine.ssh(f"sudo mount -t tmpfs tmpfs /usr/src; sudo rm -rf {compiled.DIRECTORY}", check=True)
        fails(machine, "sudo toolkit trace virtio_net -o /var/tmp/n.rxt", "apt install linux-headers-")
    finally:
        machine.ssh(f"sudo mv {own}.away {own}; sudo umount /usr/src")


def test_missing_bcc(machine: guest.Guest) -> None:
    there = "/usr/lib/python3/dist-packages/bcc"
    machine.ssh(f"sudo mv {there} {there}.away", check=True)
    try:
        fails(machine, "sudo toolkit trace virtio_net -o /var/tmp/b.rxt", "apt install python3-bpfcc")
    finally:
        machine.ssh(f"sudo mv {there}.away {there}", check=True)


def test_scenario_refuses_to_run_elsewhere(machine: guest.Guest) -> None:
    marker = "/etc/rx-stall-testbed"
    machine.ssh(f"sudo mv {marker} {marker}.away", check=True)
    try:
        done = machine.ssh(f"{guest.PYTHON} -m vm.scenarios.knob")
    finally:
        machine.ssh(f"sudo mv {marker}.away {marker}", check=True)
    assert done.returncode == 1
    assert "no testbed machine" in done.stderr
