# SPDX-License-Identifier: GPL-2.0-only
"""xen-netfront in a guest of a Xen host, which has a tracer of its own, as netback in dom0 has."""

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import toolkit
from tests.machine.harness.lab import Lab, fetch, result
from vm import guest
from vm.inside import xen

#: Where dom0 takes what the guest sends; not on its disk, which has the guest's files, too.
PORT, TAKEN = 9100, "/dev/shm/taken"
TRACE, LOG = "/tmp/front.rxt", "/tmp/front.log"

pytestmark = [pytest.mark.slow, pytest.mark.machine("xen")]


def test_the_frontend_is_silent_as_long_as_its_backend_is(
    lab: Lab, machine: guest.Guest, tmp_path: Path
) -> None:
    with _tracing_guest(lab, machine, tmp_path):
        files = lab.trial(
            machine,
            tmp_path,
            *("unfilled", "--hold", "6", "--min-free", "480000", "--after", "5"),
            reached=lambda analysis: bool((analysis.stalls["duration_ns"] > 5e8).any()),
        )
        backend, found = result(files)
        for command in ("pause", "unpause"):
            machine.module(f"vm.xen {command} 1")
            time.sleep(2)
        file = _received(
            machine,
            "chroot {0} pkill -INT -f '[t]oolkit trace'; "
            "while [ -e {0}/tmp/runs ]; do sleep 0.2; done; cat {0}{1}",
            TRACE,
            tmp_path / "front.rxt",
        )
    front = toolkit.read(file)
    assert [driver["name"] for driver in front.meta["drivers"]] == ["xen_netfront"]
    assert found["witness"]["agrees"], found["witness"]["sentence"]
    blocked = backend.stalls.nlargest(1, "duration_ns").iloc[0]
    longest = front.stalls.nlargest(1, "duration_ns").iloc[0]
    assert (blocked["state"], longest["open"]) == ("blocked", False)
    # A packet may need more buffers than there are.
    assert longest["state"] in ("starved", "no-work") and longest["order"] == 0
    assert longest["duration_ns"] == pytest.approx(blocked["duration_ns"], abs=1e8)
    posted = front.queues.nlargest(1, "packets").iloc[0]["posted_min"]
    assert posted < xen.MOST_SLOTS
    # Its CPU did not run while it was paused, and Xen tells it for how long.
    paused = front.no_ticks.nlargest(1, "duration_ns").iloc[0]
    assert paused["duration_ns"] > 2e9
    assert paused["steal_ns"] == pytest.approx(paused["duration_ns"], rel=0.1)


@contextmanager
def _tracing_guest(lab: Lab, machine: guest.Guest, tmp_path: Path) -> Iterator[None]:
    """Have the machine's guest start again with the machine's files, and trace its NIC."""
    lab.load(machine, "stock")
    try:
        machine.module("vm.xen stop 1")
        machine.module("vm.xen start 1 --memory 700 --whole", timeout=300)
        # The trace has ended when the file `runs` is gone.
        _tell(
            machine,
            f"{{ :>{xen.WHOLE}/tmp/runs; "
            f"chroot {xen.WHOLE} /usr/local/bin/toolkit trace -d eth0 -o {TRACE} >{xen.WHOLE}{LOG} 2>&1; "
            f"chroot {xen.WHOLE} rm /tmp/runs; }} &",
        )
        begun = "until chroot {0} grep -q ^tracing {1}; do sleep 0.5; done; cat {0}{1}"
        print(_received(machine, begun, LOG, tmp_path / "front.log").read_text())
        # An atomic request may go down to 3/8 of what is kept back. Others wait until `pad` is swapped out:
        # if more were kept back than could ever be free, processes would be killed.
        fill = "{ read -r _; read -r _ free _; } </proc/meminfo; "
        _tell(machine, f"{fill}dd if=/dev/zero of=/tmp/pad bs=1M count=$((free / 1024 - 120))")
        yield
    finally:
        lab.stop(machine.kind)


def _tell(machine: guest.Guest, command: str) -> None:
    machine.module(f"vm.xen tell 1 {shlex.quote(command)}")


def _received(machine: guest.Guest, command: str, path: str, target: Path) -> Path:
    """Have the guest run a command, and take what it prints.

    :param command: for the shell of its first process; {0} is the directory of its files, {1} is `path`.
    :return: `target`, which is then what the command printed.
    """
    with machine.popen(f"timeout 300 busybox nc -l -p {PORT} >{TAKEN}") as listening:
        _tell(machine, f"{{ {command.format(xen.WHOLE, path)}; }} | nc {xen.NETWORK}.1 {PORT} &")
        assert listening.wait(timeout=310) == 0
    return fetch(machine, TAKEN, target)
