# SPDX-License-Identifier: GPL-2.0-only
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vm import __main__ as command
from vm import experiment, guest, upstream, variants
from vm.image import image


@dataclass
class Machine:
    """A running machine that says what it was told; its ssh is a shell here."""

    name: str
    told: list[str]
    lives: bool = True
    kind: str = "virtio-net"
    accel: str = "tcg"
    pid: int = 7
    port: int = 2222
    started: float = 0.0
    files: Any = field(
        default_factory=lambda: SimpleNamespace(console="console.log", directory=Path("/run/one"))
    )
    machine: Any = field(default_factory=lambda: SimpleNamespace(nics=[SimpleNamespace(hub=None)]))

    def alive(self) -> bool:
        return self.lives

    def wire(self, number: int) -> Path:
        return Path(f"/run/one/wire{number}")

    def sync(self) -> None:
        self.told.append("sync")

    def copy_to(self, source: str, target: str) -> None:
        self.told.append(f"{source} to {target}")

    def copy_from(self, source: str, target: str) -> None:
        self.told.append(f"{target} from {source}")

    def ssh_argv(self, *_: str, alone: bool) -> list[str]:
        assert alone
        return ["env"]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One machine runs, `one`; gives what was done with machines."""
    done: list[str] = []
    one = Machine("one", done)

    def up(name: str, kind: str | None, *, accel: str | None) -> Machine:
        done.append(f"up {name} {kind} {accel}")
        return Machine(name, done)

    monkeypatch.setattr(guest, "running", lambda: [one])
    monkeypatch.setattr(guest, "known", lambda: [one])
    monkeypatch.setattr(guest, "find", lambda name: Machine(name, done))
    monkeypatch.setattr(guest, "up", up)
    monkeypatch.setattr(guest, "down", lambda machine: done.append(f"down {machine.name}"))
    return done


@pytest.fixture(autouse=True)
def signals() -> Any:
    """The command line handles SIGTERM; the tests do as before afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def _run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Return the exit status of `python -m vm` with these words."""
    monkeypatch.setattr(sys, "argv", ["python -m vm", *words])
    with pytest.raises(SystemExit) as stopped:
        sys.exit(command.main())
    return int(stopped.value.code or 0)


@pytest.mark.parametrize(
    ("words", "done"),
    [
        (["cp", "file", "one:/tmp"], ["file to /tmp"]),
        (["cp", "one:/tmp/x", "."], [". from /tmp/x"]),
        (["cp", "one:/a:b", "dir/c:d"], ["dir/c:d from /a:b"]),
        (["sync", "one"], ["sync"]),
        (["down", "one"], ["down one"]),
        (["down", "--all"], ["down one"]),
        (["down", "one", "two"], ["down one", "down two"]),
        (["up", "two", "--machine", "qlge", "--accel", "tcg"], ["up two qlge tcg"]),
    ],
)
def test_command_reaches_its_machine(
    told: list[str], monkeypatch: pytest.MonkeyPatch, words: list[str], done: list[str]
) -> None:
    assert _run(monkeypatch, *words) == 0
    assert told == done


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["cp", "a", "b"], "Exactly one of the two is NAME:path."),
        (["cp", "one:a", "two:b"], "Exactly one of the two is NAME:path."),
        (["cp", "dir/one:a", "b"], "Exactly one of the two is NAME:path."),
        (["down"], "Name the machines to stop, or say --all."),
        (["down", "one", "--all"], "Name the machines to stop, or say --all."),
        (["up", "two", "--dry-run"], "No machine is called two; there are "),
    ],
)
def test_mistake_is_one_sentence(
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    sentence: str,
) -> None:
    assert _run(monkeypatch, *words) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"vm: error: {sentence}") and error.count("\n") == 1
    assert told == []


@pytest.mark.parametrize("status", [0, 5])
def test_run_stops_only_a_machine_that_it_started(
    told: list[str], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    assert _run(monkeypatch, "run", "one", "sh", "-c", f"exit {status}") == status
    assert told == ["sync"]
    told.clear()
    assert _run(monkeypatch, "run", "--machine", "qlge", "two", "sh", "-c", f"exit {status}") == status
    assert told == ["up two qlge None", "down two"]


def test_ssh_passes_options_and_status_on(
    told: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "ssh", "one", "sh", "-c", "echo --json; exit 9") == 9
    assert capfd.readouterr().out == "--json\n"
    assert told == []


def test_list_shows_what_runs_and_what_died(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machines = [Machine("one", []), Machine("two", [], lives=False)]
    monkeypatch.setattr(guest, "known", lambda: machines)
    assert _run(monkeypatch, "list") == 0
    assert capsys.readouterr().out.splitlines() == [
        "one  machine virtio-net, tcg, pid 7, port 2222",
        "two  machine virtio-net, tcg, died, see console.log",
    ]
    monkeypatch.setattr(guest, "known", list)
    assert _run(monkeypatch, "list") == 0
    assert capsys.readouterr().out.startswith("Nothing runs. Machines: ")


def test_build_prints_the_disk_and_prunes_what_no_machine_uses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, bool]] = []

    def ensure(machine: Any, *, force: bool) -> SimpleNamespace:
        asked.append((machine.name, force))
        return SimpleNamespace(disk="/cache/disk")

    monkeypatch.setattr(image, "ensure", ensure)
    monkeypatch.setattr(image, "key", lambda machine: machine.name)
    monkeypatch.setattr(image, "prune", lambda wanted: ["old"] if "qlge" in wanted else [])
    assert _run(monkeypatch, "build", "qlge", "--force", "--prune") == 0
    assert asked == [("qlge", True)]
    assert tuple(capsys.readouterr()) == ("/cache/disk\n", "deleted old\n")


def test_variant_says_what_takes_long(
    told: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        variants, "load", lambda machine, which, *, say: say(f"building {machine.name} {which}")
    )
    assert _run(monkeypatch, "variant", "one", "patched:gso=0") == 0
    assert tuple(capsys.readouterr()) == ("", "building one patched:gso=0\n")
    assert told == []


def test_experiment_goes_on_with_its_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"plan": {"seed": 41}}))
    ran: list[Any] = []

    def run(*words: Any, accel: str | None) -> dict[str, str]:
        ran.append((*words, accel))
        return {"verdict": "none"}

    monkeypatch.setattr(experiment, "run", run)
    words = ["experiment", "virtio_net", "--out", str(tmp_path), "--runs", "3", "--json"]
    assert _run(monkeypatch, *words, "--variants", "stock,patched", "--scenario", "knob --times 3") == 0
    ((plan, runs, out, accel),) = ran
    assert (plan.variants, plan.scenario, plan.seed) == (("stock", "patched"), ("knob", "--times", "3"), 41)
    assert (runs, out, accel) == (3, tmp_path, None)
    assert json.loads(capsys.readouterr().out) == {"verdict": "none"}


@pytest.mark.parametrize("again", [False, True])
def test_finding_is_checked_and_its_experiment_repeated_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], again: bool
) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(upstream, "check", lambda finding, tell, _: tell(f"source of {finding.name}"))
    monkeypatch.setattr(experiment, "run", lambda *words: ran.append(words))
    name = sorted(path.parent.name for path in upstream.FINDINGS.glob("*/finding.toml"))[0]
    words = ["--out", str(tmp_path), "--runs", "2", "--seed", "5"] if again else []
    assert _run(monkeypatch, "upstream", name, *words) == 0
    assert capsys.readouterr().out == f"source of {name}\n"
    assert ran == ([(upstream.plan(upstream.load(name), 5), 2, tmp_path)] if again else [])


def test_termination_runs_what_is_to_be_put_back(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def sync(_: Machine) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            told.append("put back")

    monkeypatch.setattr(Machine, "sync", sync)
    assert _run(monkeypatch, "sync", "one") == 128 + signal.SIGTERM
    assert told == ["put back"]
