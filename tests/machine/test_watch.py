# SPDX-License-Identifier: GPL-2.0-only
"""The live view on a real terminal, during a stall; and metrics of it."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyte
import pytest

import toolkit
from tests.machine.conftest import Boot
from vm import guest, trial, variants

PATIENCE = 240


class Terminal:
    """What a person sees of a command with a terminal: it is fed all that the command writes."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int) -> None:
        self.process, self._fd = process, fd
        self.screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self.screen)
        self.written = b""

    def resize(self, columns: int, rows: int) -> None:
        """Gives the window another size; the command hears of it."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)
        self.process.send_signal(signal.SIGWINCH)

    def press(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def text(self) -> str:
        return "\n".join(self.screen.display)

    def wait(self, seen: Callable[[str], bool]) -> str:
        """:return: the screen, once it shows that."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if seen(self.text()):
                return self.text()
            if not self.read():
                status = self.process.wait()
                raise AssertionError(f"it ended with status {status}; the screen is:\n{self.text()}")
        raise AssertionError(f"not seen; the screen is:\n{self.text()}")

    def read(self) -> bool:
        """:return: whether the command still has the terminal."""
        if select.select([self._fd], [], [], 0.2)[0]:
            try:
                data = os.read(self._fd, 65536)
            except OSError:
                return False
            self.written += data
            self._stream.feed(data)
            return bool(data)
        return True


@contextmanager
def terminal(machine: guest.Guest, command: str) -> Iterator[Terminal]:
    """A command in a machine, on a terminal of 80 columns and 24 rows.

    Traffic starts when it has attached its probes: an emulated CPU may die of those that go on under it.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    words = [*machine.ssh_argv("-tt", alone=True), "--", command]
    environment = {**os.environ, "TERM": "xterm-256color"}
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        try:
            yield Terminal(process, ours)
        finally:
            process.terminate()
            os.close(ours)


def is_clean(shown: Terminal) -> bool:
    """Whether the terminal is as it was: its own screen, its cursor, no mouse, and echo."""
    left = [
        shown.written.rfind(b"\x1b[?%dl" % mode) >= shown.written.rfind(b"\x1b[?%dh" % mode)
        for mode in (1049, 1000, 1003)
    ]
    return all(left) and shown.written.rfind(b"\x1b[?25h") > shown.written.rfind(b"\x1b[?25l")


def test_watch_shows_a_stall_saves_it_and_leaves_the_terminal_clean(boot: Boot, tmp_path: Path) -> None:
    """A ring of the unfixed qlge stays deaf when memory is free again, until a small frame comes."""
    machine = boot("qlge")
    variants.load(machine, "unfixed", say=print)
    machine.ssh("sudo rm -rf /var/tmp/watch && mkdir /var/tmp/watch", check=True)
    command = "cd /var/tmp/watch && sudo toolkit watch qlge -d eth1; echo status $?; stty -a"
    with terminal(machine, command) as shown:
        shown.wait(lambda text: "eth1 rx-1 lbq" in text)
        with trial.wire(machine, trial.Traffic(rate=3000, size=1000), tmp_path / "large.json"):
            shown.wait(lambda text: re.search(r"rx-1 lbq +\d+ +[1-9].* receives", text) is not None)
            with machine.popen(f"{guest.PYTHON} -m vm.scenarios.knob -o /dev/null") as scenario:
                while scenario.poll() is None:
                    shown.read()
            shown.wait(lambda text: re.search(r"rx-1 lbq +0 .* ([3-9]|\d\d)\.\d s starved", text) is not None)
            shown.resize(120, 40)
            # It is drawn anew piece by piece.
            deaf = ("░" * 20 + " 0 ", "refill failed (GFP_ATOMIC)", "eth1 rx-1 lbq  is deaf: starved")
            shown.wait(lambda text: all(words in text for words in deaf))
        with trial.wire(machine, trial.Traffic(rate=1, size=100), tmp_path / "small.json"):
            again = r"eth1 rx-1 lbq  receives again after \d+\.\d{3} s"
            told = shown.wait(lambda text: re.search(again, text) is not None)
        shown.press("s")
        shown.wait(lambda text: "saved watch-" in text)
        shown.press("q")
        after = shown.wait(lambda text: "status 0" in text and "-echo " not in text and "icanon" in text)
        assert "0 dropped." in after
        assert is_clean(shown)
    (name,) = machine.ssh("cd /var/tmp/watch && ls *.rxt").stdout.split()
    machine.ssh("sudo chown -R $(id -u) /var/tmp/watch", check=True)
    machine.copy_from(f"/var/tmp/watch/{name}", tmp_path / "saved.rxt")
    trace = toolkit.read(tmp_path / "saved.rxt")
    assert trace.damage is None
    longest = trace.stalls.nlargest(1, "duration_ns")
    assert longest[["name", "state"]].to_numpy().tolist() == [["rx-1 lbq", "starved"]]
    seconds = longest["duration_ns"].iloc[0] / 1e9
    assert f"eth1 rx-1 lbq  receives again after {seconds:.3f} s" in told


def test_what_happened_while_the_terminal_stood_still_is_told(machine: guest.Guest, tmp_path: Path) -> None:
    """Where all memory is kept back, that of ssh is, too."""
    with terminal(machine, "sudo toolkit watch virtio_net -d eth1") as shown:
        shown.wait(lambda text: "eth1 rx-0" in text)
        with trial.wire(machine, trial.Traffic(), tmp_path / "w.json"):
            shown.wait(lambda text: "of 256" in text and "receives" in text)
            with machine.popen(f"{guest.PYTHON} -m vm.scenarios.knob --hold 3 -o /dev/null"):
                told = shown.wait(
                    lambda text: re.search(r"receives again after [23]\.\d{3} s", text) is not None
                )
        assert "refill failed (GFP_ATOMIC)" in told
        assert "eth1 rx-0  is deaf: napi-off" in told
        shown.press("q")
        shown.wait(lambda text: "0 dropped." in text)


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_a_signal_leaves_the_terminal_clean(machine: guest.Guest, name: str) -> None:
    with terminal(machine, "sudo toolkit watch virtio_net; echo status $?; stty -a") as shown:
        shown.wait(lambda text: "eth1 rx-0" in text)
        machine.ssh(
            f"sudo kill -{name} $(pgrep -f '^/opt/toolkit/venv/bin/python -m toolkit watch')", check=True
        )
        shown.wait(lambda text: "status 0" in text and "-echo " not in text and "icanon" in text)
        assert is_clean(shown)


def test_metrics_while_a_queue_is_deaf(machine: guest.Guest, tmp_path: Path) -> None:
    file = "/var/tmp/rx.prom"
    files = trial.run(
        machine,
        "virtio_net",
        tmp_path,
        scenario=["knob", "--hold", "2"],
        traffic=trial.Traffic(),
        options=["--metrics", file],
    )
    found = dict(
        line.rsplit(" ", 1)
        for line in machine.ssh(f"cat {file}", check=True).stdout.splitlines()
        if line[0] != "#"
    )
    queue = '{device="eth1",driver="virtio_net",queue="0"}'
    trace = toolkit.read(files.trace)
    assert float(found[f"rx_stall_stalls_total{queue}"]) == len(trace.stalls)
    stalled = trace.queues["stalled_ns"].sum() / 1e9
    assert float(found[f"rx_stall_stalled_seconds_total{queue}"]) == pytest.approx(stalled, abs=1e-3)
    assert float(found[f"rx_stall_refills_failed_total{queue}"]) == trace.queues["failed"].sum()
    assert float(found["rx_stall_events_dropped_total"]) == 0
    assert machine.ssh(f"stat -c %a {file}").stdout.strip() == "644"
