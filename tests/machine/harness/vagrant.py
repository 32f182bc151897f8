# SPDX-License-Identifier: GPL-2.0-only
"""Vagrant beside a libvirtd of the tests' own, in namespaces that go with it."""

import base64
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vm.paths import CHECKOUT, cache

NAME = "virtio-net"
TOOLS = [
    "vagrant",
    "libvirtd",
    "virsh",
    "dnsmasq",
    "iptables",
    "qemu-img",
    "grub-mkimage",
    "unshare",
    "nsenter",
]
VIRSH = ["virsh", "--connect", "qemu:///system"]
UP_SECONDS = 500
SSH_SECONDS = 150

# One line of JSON from inside: what machines.yaml promises.
FACTS = """
import json, os, pathlib
def driver(device):
    return pathlib.Path(f"/sys/class/net/{device}/device/driver/module").resolve().name
print(json.dumps({
    "cmdline": pathlib.Path("/proc/cmdline").read_text().split(),
    "cpus": os.cpu_count(),
    "drivers": [driver("eth0"), driver("eth1")],
    "marker": os.path.exists("/etc/rx-stall-testbed"),
    "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    "swap": [int(line.split()[2]) for line in pathlib.Path("/proc/swaps").read_text().splitlines()[1:]],
}))
"""


@dataclass(frozen=True)
class Vagrant:
    """Vagrant beside a libvirtd in namespaces of its own.

    :param namespaces: the process whose namespaces they are.
    :param work: where both keep everything.
    """

    namespaces: int
    work: Path

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the user's own Vagrant, libvirt or settings."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("VAGRANT", "RXSTALL_"))
        }
        kept.pop("LIBVIRT_DEFAULT_URI", None)
        return kept | {
            "HOME": str(self.work / "home"),
            "XDG_CACHE_HOME": str(cache().parent),
            "VAGRANT_HOME": str(self.work / "vagrant"),
            "VAGRANT_DOTFILE_PATH": str(self.work / "dot"),
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "VAGRANT_NO_COLOR": "1",
        }

    def inside(self, *words: str) -> list[str]:
        """A command, spelled for the namespaces."""
        there = f"/proc/{self.namespaces}"
        enter = ["nsenter", "--target", str(self.namespaces), "--mount", "--net", "--root"]
        return [*enter, f"--pid={there}/ns/pid_for_children", f"--wd={CHECKOUT}", "--", *words]

    def run(self, *words: str, seconds: float, check: bool = True) -> str:
        """Run a command in the namespaces and return what it prints; its messages appear if it fails."""
        began = time.monotonic()
        out, messages = self.work / "out", self.work / "messages"
        # Files, not pipes: what is left of a command that took too long keeps them open.
        with out.open("wb") as first, messages.open("wb") as second:
            try:
                done = subprocess.run(
                    self.inside(*words),
                    cwd=CHECKOUT,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=first,
                    stderr=second,
                    timeout=seconds,
                )
                status = f"failed with status {done.returncode}" if done.returncode else ""
            except subprocess.TimeoutExpired:
                status = f"took more than {seconds:.0f} s"
        text = out.read_text(errors="replace")
        print(f"{' '.join(words)[:60]}: {time.monotonic() - began:.0f} s")
        if status and check:
            pytest.fail(
                f"`{' '.join(words)}` {status}.\n{self._tail(text + messages.read_text(errors='replace'))}"
            )
        return text

    def ssh(self, command: str, *, name: str = NAME, seconds: float = SSH_SECONDS) -> str:
        """Run a command in a machine."""
        return self.run("vagrant", "ssh", name, "-c", command, seconds=seconds)

    def facts(self, name: str = NAME) -> Any:
        """What a machine says of itself."""
        script = base64.b64encode(FACTS.encode()).decode()
        return json.loads(self.ssh(f"echo {script} | base64 -d | python3 -", name=name))

    def _tail(self, text: str) -> str:
        lines = [line for line in text.replace("\r", "\n").splitlines() if "Progress:" not in line]
        for path in [self.work / "log", *(self.work / "tmp").glob("*/*/console.log")]:
            with contextlib.suppress(OSError):
                lines += [f"--- {path.name}", *path.read_text(errors="replace").splitlines()[-20:]]
        return "\n".join(lines[-90:])


@pytest.fixture(scope="module")
def vagrant() -> Iterator[Vagrant]:
    """Vagrant with our box, and a libvirtd that goes with all that it started."""
    _can_run()
    work = cache() / "vagrant-test"
    work.mkdir(exist_ok=True)
    with (cache() / "vagrant-test.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # A run that was killed leaves files, but no process: they all die with their parent.
        shutil.rmtree(work)
        work.mkdir()
        (work / "home").mkdir()
        words = ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--propagation=unchanged", "--net"]
        words += ["--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        words += [str(Path(__file__).with_name("libvirtd.sh")), str(work)]
        with (work / "start").open("wb") as said:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        found = Vagrant(process.pid, work)
        try:
            _wait(found, process)
            subprocess.run(
                [sys.executable, "-m", "vm", "box", NAME], cwd=CHECKOUT, env=found.environment, check=True
            )
            yield found
        finally:
            process.kill()
            process.wait()
            _remove(work)
            with contextlib.suppress(OSError):
                Path(f"/tmp/rx-stall-{os.getuid()}").rmdir()


def _remove(work: Path) -> None:
    # The kernel ends what was in the namespaces a moment later, and until then it may still write.
    deadline = time.monotonic() + 10
    while work.exists() and time.monotonic() < deadline:
        shutil.rmtree(work, ignore_errors=True)
        time.sleep(0.2)
    if work.exists():
        shutil.rmtree(work)


def _can_run() -> None:
    """Skip where the test cannot run; not on CI, where it has to."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    reason = "it needs root, for namespaces" if os.getuid() else ""
    if missing:
        reason = f"{', '.join(missing)} not installed: run `make setup-vagrant`"
    if reason:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def _wait(vagrant: Vagrant, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.5)
        if "QEMU" in vagrant.run(*VIRSH, "version", seconds=20, check=False):
            return
    said = "".join(
        path.read_text() for path in (vagrant.work / "start", vagrant.work / "log") if path.exists()
    )
    pytest.fail(f"libvirtd did not start.\n{said}")


@contextlib.contextmanager
def frames(vagrant: Vagrant) -> Iterator[None]:
    """Frames into the NIC under test, by the sender that every machine gets them from."""
    [socket] = (vagrant.work / "tmp").glob(f"*/{NAME}/nic0")
    words = [
        sys.executable,
        "-m",
        "vm.wire",
        "--socket",
        socket.name,
        "--rate",
        "2000",
        "--duration",
        "86400",
    ]
    with subprocess.Popen(
        words,
        # A relative name: the whole one may be too long for a socket.
        cwd=socket.parent,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as sender:
        try:
            yield
        finally:
            sender.send_signal(signal.SIGINT)
            _, said = sender.communicate(timeout=30)
    assert sender.returncode == 0, said
