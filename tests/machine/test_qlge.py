# SPDX-License-Identifier: GPL-2.0-only
"""qlge, with a NIC of our own: Debian's driver takes it for the adapter, and stalls as it did."""

import json
import random
import time
from pathlib import Path

import pytest

from tests.machine.harness.lab import Lab, assert_log_is_clean, emptied, failed, result
from tests.machine.harness.peer import Peer, peer
from tests.machine.test_virtio_net import received
from toolkit.stalls.analysis import analyze, summary
from vm import guest, trial
from vm.qemu.command import mac
from vm.wire import frames

pytestmark = pytest.mark.machine("qlge")

#: How long memory is free again, and the unfixed ring still deaf; a refill worker retries every half second.
DEAF_SECONDS = 15

ECHO = """
import socket
port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
port.bind(("", 9000))
print("ready", flush=True)
while True:
    data, who = port.recvfrom(1 << 16)
    port.sendto(data, who)
"""


def address(machine: guest.Guest, mtu: int = 1500) -> None:
    """Gives eth1 an address, and lets it ask for others'."""
    words = f"link set eth1 arp on mtu {mtu}", f"address replace {frames.DESTINATION}/24 dev eth1"
    machine.ssh(" && ".join(f"sudo ip {each}" for each in words), check=True)
    carrier(machine, "1")


def carrier(machine: guest.Guest, wanted: str) -> None:
    deadline = time.monotonic() + 30
    while machine.ssh("cat /sys/class/net/eth1/carrier").stdout.strip() != wanted:
        assert time.monotonic() < deadline, f"the link did not become {wanted}"
        time.sleep(0.3)


def ping(machine: guest.Guest) -> None:
    done = machine.ssh(f"ping -c 5 -i 0.2 -W 5 {frames.SOURCE}")
    assert " 0% packet loss" in done.stdout, done.stdout + done.stderr


def test_eth1_is_under_debians_own_driver(machine: guest.Guest) -> None:
    facts = machine.ssh(
        "readlink -f /sys/class/net/eth1/device/driver/module; cat /sys/class/net/eth1/address; "
        "modinfo -F intree qlge; cat /sys/class/net/eth1/operstate",
        check=True,
    ).stdout.split()
    assert facts == ["/sys/module/qlge", mac(0), "Y", "up"]
    assert machine.ask("stats")["link"] == "up"


@pytest.mark.slow
@pytest.mark.machine("qlge-8012")
def test_the_8012_is_under_the_same_driver(machine: guest.Guest) -> None:
    facts = machine.ssh(
        "cat /sys/class/net/eth1/device/device; readlink -f /sys/class/net/eth1/device/driver/module",
        check=True,
    ).stdout.split()
    assert facts == ["0x8012", "/sys/module/qlge"]
    with peer(machine.wire(0), machine.files.peer(0)):
        address(machine)
        ping(machine)
    assert_log_is_clean(machine)


def test_qlge_is_fully_observable(lab: Lab, machine: guest.Guest) -> None:
    lab.load(machine, "stock")
    done = machine.ssh("sudo toolkit doctor qlge")
    assert done.returncode == 0, done.stdout
    assert "qlge: fully observable" in done.stdout, done.stdout
    assert "eth1 (4 queues)" in done.stdout


def test_ping_and_link(lab: Lab, machine: guest.Guest) -> None:
    lab.load(machine, "stock")
    with peer(machine.wire(0), machine.files.peer(0)):
        address(machine)
        ping(machine)
        machine.ask("link", "down")
        carrier(machine, "0")
        machine.ask("link", "up")
        carrier(machine, "1")
        ping(machine)


def test_module_is_loaded_again_and_again(lab: Lab, machine: guest.Guest) -> None:
    with peer(machine.wire(0), machine.files.peer(0)):
        for _ in range(3):
            lab.reload(machine, "stock")
            address(machine)
            ping(machine)
    assert_log_is_clean(machine)


def test_large_frames_arrive_as_they_were(lab: Lab, machine: guest.Guest) -> None:
    """There and back: 8000 bytes fit into a large buffer, 9014 are chained."""
    lab.load(machine, "stock")
    chance = random.Random(1)
    with (
        peer(machine.wire(0), machine.files.peer(0)) as other,
        machine.popen(f"exec python3 -u -c '{ECHO}'") as echo,
    ):
        assert echo.stdout is not None
        assert echo.stdout.readline() == "ready\n"
        address(machine, mtu=9000)
        ping(machine)
        for size in [100, 1000, *[8000] * 20, *[9014] * 20]:
            content = chance.randbytes(size - frames.HEADERS)
            assert _echoed(other, content) == content, f"{size} bytes"
        echo.kill()
    address(machine, mtu=1500)
    assert_log_is_clean(machine)


def _echoed(other: Peer, content: bytes) -> bytes:
    size = frames.HEADERS + len(content)
    other.send(frames.udp(size, dst_mac=mac(0), port=9000, content=content))
    return other.datagrams.get(timeout=20)


def test_packets_are_all_counted_on_the_queue_that_held_them(
    lab: Lab, machine: guest.Guest, tmp_path: Path
) -> None:
    lab.load(machine, "stock")
    for size, name in ((1000, "rx-1 lbq"), (200, "rx-1 sbq")):
        before = received(machine, "eth1")
        traffic = trial.Traffic(rate=3000, size=size)
        files = lab.trial(machine, tmp_path / name, seconds=4, traffic=traffic, alone=True)
        analysis, found = result(files)
        assert found["regime"] == "workqueue fallback"
        assert analysis.stalls.empty
        packets = analysis.queues.set_index("name")["packets"]
        assert packets.sum() == received(machine, "eth1") - before
        assert packets[name] > 0.99 * packets.sum() > 0


@pytest.mark.parametrize(("mtu", "size", "order"), [(1500, 1000, 0), (9000, 8000, 1)])
def test_stock_recovers(
    lab: Lab, machine: guest.Guest, tmp_path: Path, mtu: int, size: int, order: int
) -> None:
    lab.load(machine, "stock")
    machine.ssh(f"sudo ip link set eth1 mtu {mtu}", check=True)
    carrier(machine, "1")
    traffic = trial.Traffic(rate=3000, size=size)
    # Larger buffers last longer: memory has to be short for longer, too.
    short = ["--min-free", "650000", "--hold", "2"] if order else []
    # Its ring may be short of nothing when it runs dry: what is asked of the trace is whether it did.
    reached = emptied("rx-1 lbq")
    files = lab.trial(machine, tmp_path, "knob", "--after", "3", *short, traffic=traffic, reached=reached)
    machine.ssh("sudo ip link set eth1 mtu 1500", check=True)
    analysis, found = result(files)
    assert found["variant"] == "stock"
    longest = analysis.stalls.sort_values("duration_ns").iloc[-1]
    assert longest["name"] == "rx-1 lbq"
    assert longest["order"] == order
    assert longest["duration_ns"] > 300_000_000
    assert longest["retries"] >= 1
    assert not analysis.stalls["open"].any()
    assert found["witness"]["agrees"], found["witness"]["sentence"]


def test_unfixed_stays_deaf(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    # One that is deaf from the last test would stay so.
    lab.reload(machine, "unfixed")
    traffic = trial.Traffic(rate=3000, size=1000)
    scenario = ("knob", "--after", str(DEAF_SECONDS))
    reached = emptied("rx-1 lbq")
    # Its last poll is in a window that nothing sends any more.
    files = lab.trial(machine, tmp_path, *scenario, traffic=traffic, alone=True, reached=reached)
    analysis, found = result(files)
    assert (found["variant"], found["regime"]) == ("unfixed", "none")
    starved = analysis.stalls[analysis.stalls["name"] == "rx-1 lbq"].sort_values("duration_ns").iloc[-1]
    assert (starved["state"], bool(starved["open"])) == ("starved", True)
    phases = {phase["name"]: phase for phase in json.loads(files.phases.read_text())["phases"]}
    since = phases["hold"]["end_ns"]
    assert starved["start_ns"] < since
    assert starved["start_ns"] + starved["duration_ns"] - since > DEAF_SECONDS * 1_000_000_000
    # Nothing came that could wake it: no interrupt, and no poll but the one that found no memory.
    assert (starved["irqs"], starved["polls"]) == (0, 1)
    assert starved["packets"] <= 64
    assert found["witness"]["agrees"], found["witness"]["sentence"]
    rings = json.loads(files.witness.read_text())["nic"]["rings"]
    (gap,) = [gap for gap in rings[1]["gaps_lbq"] if gap.get("open")]
    assert gap["duration_ns"] > (DEAF_SECONDS - 1) * 1e9 and gap["refused"] > 0
    # Who begins to trace now finds a ring to which nothing happens any more.
    later = analyze(lab.trial(machine, tmp_path / "later", seconds=4, alone=True).trace)
    (stall,) = later.stalls.to_dict("records")
    assert (stall["name"], stall["state"], stall["open"]) == ("rx-1 lbq", "starved", True)
    assert stall["cause"] == "before_trace"
    assert stall["duration_ns"] > 3_000_000_000


@pytest.mark.slow
def test_timer_retries_at_its_interval(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    lab.load(machine, "timer:refill_interval_ms=50")
    traffic = trial.Traffic(rate=3000, size=1000)
    reached = emptied("rx-1 lbq")
    files = lab.trial(machine, tmp_path, "knob", "--after", "3", traffic=traffic, reached=reached)
    analysis, found = result(files)
    assert (found["variant"], found["regime"]) == ("timer", "timer")
    longest = analysis.stalls.sort_values("duration_ns").iloc[-1]
    assert (longest["name"], longest["state"]) == ("rx-1 lbq", "starved")
    # Nothing else asks for memory meanwhile.
    assert longest["polls"] == pytest.approx(longest["duration_ns"] / 50e6, rel=0.5)
    assert not analysis.stalls["open"].any()
    assert found["witness"]["agrees"], found["witness"]["sentence"]


def test_a_small_frame_wakes_an_unfixed_ring(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    """Why the scenarios' frames have a ring of their own: any ARP request would end the stall."""
    # One that is deaf from the last test would stay so.
    lab.reload(machine, "unfixed")
    large, small = (trial.Traffic(rate=rate, size=size) for rate, size in ((3000, 1000), (5, 100)))

    def send_small() -> None:
        with trial.wire(machine, small, tmp_path / "small.json"):
            time.sleep(3)

    scenario, reached = ("knob", "--after", "3"), emptied("rx-1 lbq")
    files = lab.trial(machine, tmp_path, *scenario, traffic=large, reached=reached, then=send_small)
    stalls = analyze(files.trace).stalls
    longest = stalls.sort_values("duration_ns").iloc[-1]
    assert (longest["name"], longest["state"]) == ("rx-1 lbq", "starved")
    assert longest["duration_ns"] > 3_000_000_000
    assert not longest["open"]


@pytest.mark.slow
@pytest.mark.machine("qlge", "virtio-net")
def test_tcp_whose_receiver_is_stopped(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    """The sender is another machine: its window probes are small frames, which wake the ring."""
    lab.load(machine, "stock")
    other = lab.boot("virtio-net")
    guest.join(machine, other)
    for each, ip, far, there in (
        (machine, frames.DESTINATION, frames.SOURCE, other),
        (other, frames.SOURCE, frames.DESTINATION, machine),
    ):
        lladdr = there.ssh("cat /sys/class/net/eth1/address", check=True).stdout.strip()
        each.ssh(
            f"sudo ip address replace {ip}/24 dev eth1 && "
            f"sudo ip neigh replace {far} lladdr {lladdr} dev eth1 nud permanent",
            check=True,
        )
    with other.popen(f"{guest.PYTHON} -m vm.scenarios.stopped --send {frames.DESTINATION}") as sender:
        files = lab.trial(machine, tmp_path, "stopped", reached=failed)
        other.ssh("sudo pkill -f -- '--send 192[.]'")
        sender.communicate(timeout=60)
    analysis = analyze(files.trace)
    assert summary(analysis)["complete"], analysis.damage
    assert not analysis.stalls["open"].any()
    assert analysis.queues["packets"].sum() > 5000
