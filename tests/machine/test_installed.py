# SPDX-License-Identifier: GPL-2.0-only
"""The service in a machine that runs systemd: scraped, and alarming; installed by its package, and purged."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import toolkit
from tests import deb
from tests.machine.harness import prometheus, systemd
from tests.machine.harness.lab import Lab, counters_of_recorder, fetch
from tests.machine.harness.prometheus import Servers, wait
from tests.promtool import program
from vm import guest, trial
from vm.guest import ssh
from vm.image.debian import stderr

DOCS = Path(__file__).parents[2] / "docs"
RULES, UNIT = DOCS / "monitoring/rules.yaml", DOCS / "systemd/rx-stall-record.service"
RECORDER, NODE = 9435, 9100
EXPORTED = "/var/lib/prometheus/node-exporter"
#: So much is kept before what is put aside (--before).
KEPT_NS = 60_000_000_000

#: Files that come and go with apt, dpkg and systemd themselves, and bytecode of the scenarios.
OTHERS = (
    "/opt/toolkit",
    "/tmp",
    "/var/tmp",
    "/var/log",
    "/var/cache",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/lib/systemd/timers",
)

pytestmark = [pytest.mark.timeout(3600), pytest.mark.machine("qlge")]


def test_deaf_ring_alarms_until_it_receives_again(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    with _systemd(lab, machine):
        _copy_unit(machine)
        _start(machine, "/usr/local/bin/toolkit record -d eth1")
        wait(lambda: "recording eth1; " in _log(machine), 60, "the recorder's word")
        with (
            _node_exporter(machine),
            _forwarded(machine, RECORDER, NODE) as (recorder, node),
            prometheus.running(tmp_path, RULES, {"rx-stall": recorder, "node": node}) as servers,
        ):
            wait(lambda: servers.query("up") == {"rx-stall": 1, "node": 1}, 60, "both to be scraped")
            assert not servers.firing()
            with _starved(machine, tmp_path):
                _assert_alarm(servers)
            _wake_until_it_is_resolved(machine, servers, tmp_path)
        _assert_put_aside(machine, tmp_path)
        _assert_recorded_again_after_a_reload(lab, machine)


@pytest.mark.machine("e100")
def test_nic_that_comes_up_is_recorded_from_then_on(lab: Lab, machine: guest.Guest) -> None:
    """No probes for its driver are at work, so the recorder starts again, and systemd lets it."""
    with _systemd(lab, machine, "stock"):
        machine.ssh("sudo ip link set eth1 down", check=True)
        _copy_unit(machine)
        _start(machine, "/usr/local/bin/toolkit record")
        wait(lambda: "recording eth0; " in _log(machine), 60, "the recorder's word")
        show = "systemctl show rx-stall-record -p MainPID -p ActiveState -p NRestarts"
        before = machine.ssh(show, check=True).stdout
        machine.ssh("sudo ip link set eth1 up", check=True)
        wait(lambda: re.search("recording (eth0, eth1|eth1, eth0); ", _log(machine)), 300, "eth1's record")
        log = _log(machine)
        assert "eth1 came up; the recorder starts again, to trace it, too." in log
        # It ended by itself, and it is the same process.
        assert "did not end by itself" not in log
        assert "ActiveState=active" in before and machine.ssh(show, check=True).stdout == before


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("dh"), reason="debhelper is not installed: `make deb` installs it")
def test_package_records_a_stall_and_leaves_nothing(lab: Lab, machine: guest.Guest, tmp_path: Path) -> None:
    if deb.release() != machine.machine.release:
        pytest.skip(f"a package that is built here is not for {machine.machine.release}")
    package = deb.ensure(stderr)
    with _systemd(lab, machine):
        before = _files(machine)
        _install(machine, package)
        _start(machine, "/usr/bin/toolkit record -d eth1")
        wait(lambda: "recording eth1; " in _log(machine), 60, "the recorder's word")
        with _starved(machine, tmp_path):
            wait(lambda: "-stall.rxt: " in _log(machine), 120, "a trace to be put aside")
        _assert_put_aside(machine, tmp_path)
        _purge(machine)
        assert _files(machine) == before


@contextmanager
def _systemd(lab: Lab, machine: guest.Guest, variant: str = "unfixed") -> Iterator[None]:
    """Have systemd in a machine with a variant of its driver; it is another machine then, and goes."""
    lab.load(machine, variant)
    lab.end_trace(machine)
    try:
        systemd.take_over(machine)
        yield
    finally:
        lab.stop(machine.kind)


def _files(machine: guest.Guest) -> list[str]:
    """Return the files of a machine, but those of others."""
    pruned = " -o ".join(f"-path {path}" for path in OTHERS)
    find = f"sudo find / -xdev \\( {pruned} \\) -prune -o ! -path /etc/ld.so.cache -print"
    return sorted(machine.ssh(find, check=True).stdout.splitlines())


def _install(machine: guest.Guest, package: Path) -> None:
    """Install the package, as it is told in docs/install.md; its service is not started by that."""
    machine.copy_to(package, "/tmp/")
    apt = "sudo DEBIAN_FRONTEND=noninteractive apt-get -qq -y"
    machine.ssh(f"{apt} install /tmp/{package.name}", check=True, timeout=1800)
    machine.ssh(f"sudo mkdir -p {EXPORTED} && rm /tmp/{package.name}", check=True)
    # What apt has read and written takes all memory: a ring ran empty as soon as frames came.
    machine.ssh("sync && echo 3 | sudo tee /proc/sys/vm/drop_caches", check=True)
    assert machine.ssh("systemctl is-enabled rx-stall-record").stdout.strip() == "disabled"


def _copy_unit(machine: guest.Guest) -> None:
    """Have the service without the package: the unit, for the toolkit that is in each machine."""
    machine.ssh(f"sudo mkdir -p {EXPORTED}", check=True)
    machine.ssh("sudo tee /etc/systemd/system/rx-stall-record.service", stdin=UNIT.read_text(), check=True)


def _start(machine: guest.Guest, record: str) -> None:
    """Start the service, with what an administrator adds to its command (docs/monitoring/README.md)."""
    drop_in = f"""[Service]
ExecStart=
ExecStart={record} --directory /var/lib/rx-stall \\
    --listen 127.0.0.1:{RECORDER} --metrics {EXPORTED}/rx_stall.prom
ReadWritePaths={EXPORTED}
"""
    directory = "/etc/systemd/system/rx-stall-record.service.d"
    machine.ssh(f"sudo mkdir -p {directory}", check=True)
    machine.ssh(f"sudo tee {directory}/override.conf", stdin=drop_in, check=True)
    machine.ssh("sudo systemctl daemon-reload && sudo systemctl enable --now rx-stall-record", check=True)


def _log(machine: guest.Guest) -> str:
    return machine.ssh("sudo journalctl -o cat -u rx-stall-record", check=True).stdout


@contextmanager
def _node_exporter(machine: guest.Guest) -> Iterator[None]:
    """Debian's node_exporter, which reads the recorder's file."""
    machine.copy_to(program("prometheus-node-exporter"), "/tmp/node-exporter")
    words = "--collector.disable-defaults --collector.textfile"
    words += f" --collector.textfile.directory={EXPORTED} --web.listen-address=127.0.0.1:{NODE}"
    unit = "systemd-run --quiet --collect --unit=node-exporter"
    machine.ssh(f"sudo {unit} /tmp/node-exporter {words}", check=True)
    yield
    machine.ssh("sudo systemctl stop node-exporter", check=True)


@contextmanager
def _forwarded(machine: guest.Guest, *ports: int) -> Iterator[list[int]]:
    """Give ports of this host's loopback that lead to ports of the machine's."""
    here = [ssh.free_port() for _ in ports]
    pairs = zip(here, ports, strict=True)
    words = [word for port, there in pairs for word in ("-L", f"127.0.0.1:{port}:127.0.0.1:{there}")]
    with subprocess.Popen(machine.ssh_argv("-N", *words, alone=True)) as tunnel:
        try:
            yield here
        finally:
            tunnel.terminate()


@contextmanager
def _starved(machine: guest.Guest, tmp_path: Path) -> Iterator[None]:
    """A ring of the unfixed driver whose buffers ran out stays deaf, also when memory is free again.

    Traffic goes on to the end of the block.
    """
    seconds = re.compile(r"^rx_stall_stalled_seconds_total\{.*eth1.*\} (\S+)$", re.MULTILINE)
    traffic = trial.Traffic(rate=3000, size=1000)
    with trial.wire(machine, traffic, tmp_path / "witness.json"):
        # As much as is to be in the trace before the stall.
        time.sleep(15)
        for _ in range(4):
            machine.ssh(f"{guest.PYTHON} -m vm.scenarios.knob -o /dev/null")
            time.sleep(10)
            # What the recorder answers is ahead of its file.
            if any(float(each) > 5 for each in seconds.findall(counters_of_recorder(machine, RECORDER))):
                break
        yield


def _assert_alarm(servers: Servers) -> None:
    took = wait(lambda: "RxQueueDeaf" in servers.firing(), 180, "the alert to fire")
    print(f"RxQueueDeaf fired after {took:.0f} s")
    labels = servers.firing()["RxQueueDeaf"]
    assert (labels["device"], labels["driver"], labels["severity"]) == ("eth1", "qlge", "critical")
    wait(lambda: "RxQueueDeaf" in servers.notified(), 60, "alertmanager to know")
    # node_exporter tells the same, of a file that is written again and again: less often while memory is
    # short, so it may be behind what the recorder answers.
    stalled = 'max by (job) (rx_stall_stalled_seconds_total{device="eth1"}) > 50'
    wait(lambda: servers.query(stalled).keys() == {"rx-stall", "node"}, 60, "both to tell of the stall")
    written = "changes(node_textfile_mtime_seconds[1m])"
    wait(lambda: servers.query(written).get("node", 0) > 1, 60, "the file to be written again")


def _assert_recorded_again_after_a_reload(lab: Lab, machine: guest.Guest) -> None:
    """The recorder ends with the module, and systemd starts it until its NIC is back."""
    before = _log(machine).count("recording eth1; ")
    lab.reload(machine, "unfixed")
    took = wait(lambda: _log(machine).count("recording eth1; ") > before, 300, "the recorder to start again")
    print(f"eth1 was recorded again {took:.0f} s after its module was loaded again")
    assert "the module that was traced is unloaded; start the recorder again" in " ".join(
        _log(machine).split()
    )


def _wake_until_it_is_resolved(machine: guest.Guest, servers: Servers, tmp_path: Path) -> None:
    """One small frame goes into a buffer of the ring, and its poll refills both queues of buffers."""
    small = trial.Traffic(rate=5, size=100)
    with trial.wire(machine, small, tmp_path / "small.json"):
        time.sleep(3)
    took = wait(lambda: "RxQueueDeaf" not in servers.firing(), 180, "the alert to be resolved")
    print(f"RxQueueDeaf was resolved after {took:.0f} s")
    wait(lambda: "RxQueueDeaf" not in servers.notified(), 60, "alertmanager to know")


def _assert_put_aside(machine: guest.Guest, tmp_path: Path) -> None:
    """The trace that was put aside holds the stall, with 10 s before it, and opens here."""
    found = re.search(r"^(/var/lib/rx-stall/\S+-stall)\.rxt: stall > 1s$", _log(machine), re.MULTILINE)
    assert found, _log(machine)
    machine.ssh("sudo chmod 755 /var/lib/rx-stall", check=True)
    trace = toolkit.read(fetch(machine, f"{found[1]}.rxt", tmp_path / "kept.rxt"))
    about = json.loads(fetch(machine, f"{found[1]}.json", tmp_path / "kept.json").read_text())
    assert trace.damage is None and trace.summary["complete"]
    longest = trace.stalls.nlargest(1, "duration_ns").iloc[0]
    assert longest["state"] == "starved"
    assert longest["duration_ns"] > 1e9 and longest["start_ns"] < about["at_ns"]
    # It may be noticed late, where memory is short for everybody: then less of what was before it is kept.
    before = longest["start_ns"] - trace.summary["began_ns"]
    assert before >= 10e9 or (before > 0 and trace.summary["duration_ns"] >= KEPT_NS)
    assert (about["condition"], about["device"], about["queue"]) == ("stall > 1s", "eth1", longest["queue"])


def _purge(machine: guest.Guest) -> None:
    """Purge the package while its service runs: neither files nor probes, processes or a unit are left."""
    machine.ssh("sudo systemctl revert rx-stall-record", check=True)
    machine.ssh("sudo rm -r /var/lib/prometheus", check=True)
    purge = "sudo DEBIAN_FRONTEND=noninteractive apt-get -qq -y purge rx-stall-toolkit"
    machine.ssh(purge, check=True, timeout=600)
    assert machine.ssh("pgrep -f 'bin/toolkit [r]ecord'").stdout == ""
    assert machine.ssh("systemctl is-enabled rx-stall-record").stdout.strip() in ("", "not-found")
    assert machine.ssh("systemctl is-active rx-stall-record").stdout.strip() == "inactive"
    assert machine.ssh("systemctl --failed --plain --no-legend").stdout.strip() == ""
    assert machine.ssh("sudo bpftool prog show | grep -cE 'kprobe|tracing'").stdout.strip() == "0"
    left = machine.ssh("ls -d /var/lib/rx-stall /var/cache/rx-stall /run/rx-stall* /dev/shm/*")
    assert left.stdout == ""
