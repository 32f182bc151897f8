# SPDX-License-Identifier: GPL-2.0-only
import json
import os
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.errors import UserError
from vm.inside import testbed


@pytest.mark.parametrize(
    ("text", "ports"),
    [("9000-9003", [9000, 9001, 9002, 9003]), ("9000", [9000]), ("9000-9000", [9000]), ("2-1", [])],
)
def test_ports_are_first_to_last(text: str, ports: list[int]) -> None:
    assert list(testbed._ports(text)) == ports


def test_every_default_can_be_overridden() -> None:
    parser = testbed.options("what it does")
    testbed.pressure_options(parser)
    usual, other = (
        parser.parse_args([]),
        parser.parse_args(["--ports", "7-8", "-o", "x.json", "--dirty", "9"]),
    )
    assert (list(usual.ports)[::47], usual.output, usual.dirty) == ([9000, 9047], None, 750)
    assert (list(other.ports), other.output, other.dirty) == ([7, 8], Path("x.json"), 9)


def test_only_a_testbed_machine_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "marker"
    monkeypatch.setattr(testbed, "MARKER", marker)
    with pytest.raises(UserError, match=r"this is no testbed machine .*its disks are left alone"):
        testbed.only_here("disks")
    marker.touch()
    testbed.only_here("disks")


def test_a_scenario_logs_its_parameters_but_not_where_the_log_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testbed, "MARKER", tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(Path, "write_text", lambda *_: 0)
    parser = testbed.options("what it does")
    parser.add_argument("--hold", type=float, default=2)
    testbed.receiver_options(parser)
    arguments = parser.parse_args(["-o", "x.json", "--ports", "7-8"])
    assert testbed.begin("knob", arguments).parameters == {
        "address": "192.0.2.1/24",
        "device": "eth1",
        "hold": 2,
        "ports": "range(7, 9)",
    }


def test_phases_are_logged_on_the_clock_of_the_traces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = testbed.Phases("knob", {"hold": 2.0})
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    with log.phase("rest"):
        time.sleep(0.01)
    with log.phase("hold", shortage=True):
        pass
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert capsys.readouterr().err == "knob: rest\nknob: hold\n"
    log.write(tmp_path / "phases.json")
    found = json.loads((tmp_path / "phases.json").read_text())
    assert (found["scenario"], found["parameters"]) == ("knob", {"hold": 2.0})
    rest, hold = found["phases"]
    assert [(each["name"], each["shortage"]) for each in (rest, hold)] == [("rest", False), ("hold", True)]
    assert before <= rest["start_ns"] <= rest["end_ns"] - 10_000_000
    assert rest["end_ns"] <= hold["start_ns"] <= hold["end_ns"] <= after


def test_phase_that_is_cut_short_is_logged_too(capsys: pytest.CaptureFixture[str]) -> None:
    log = testbed.Phases("knob", {})
    with pytest.raises(SystemExit), log.phase("hold", shortage=True):
        sys.exit(143)
    log.write(None)
    (phase,) = json.loads(capsys.readouterr().out)["phases"]
    assert (phase["name"], phase["shortage"]) == ("hold", True)


def test_sysctl_is_put_back_also_after_an_error(tmp_path: Path) -> None:
    knob = tmp_path / "min_free_kbytes"
    knob.write_text("4096\n")
    with testbed.sysctl(str(knob), "8192\n"):
        assert knob.read_text() == "8192\n"
    assert knob.read_text() == "4096\n"
    with pytest.raises(ZeroDivisionError), testbed.sysctl(str(knob), "8192\n"):
        raise ZeroDivisionError
    assert knob.read_text() == "4096\n"


def test_way_back_of_a_sysctl_opens_no_file(tmp_path: Path) -> None:
    """There may be no memory for it then."""
    knob = tmp_path / "min_free_kbytes"
    knob.write_text("4096\n")
    with testbed.sysctl(str(knob), "8192\n"):
        knob.rename(tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere").read_text() == "4096\n"


def test_meminfo_is_in_bytes() -> None:
    total = testbed.meminfo("MemTotal")
    assert total == pytest.approx(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE"), rel=0.01)
    assert 0 < testbed.meminfo("MemFree") < total
    with pytest.raises(KeyError):
        testbed.meminfo("MemTot")


def _sleep() -> None:
    time.sleep(60)


def test_child_lives_as_long_as_the_block() -> None:
    with testbed.child(_sleep) as pid:
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_child_is_ended_by_an_error_in_the_block() -> None:
    with pytest.raises(ZeroDivisionError), testbed.child(_sleep) as pid:
        raise ZeroDivisionError
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_child_that_was_stopped_is_ended_too() -> None:
    with testbed.child(_sleep) as pid:
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("run", [lambda: None, lambda: sys.exit(0)], ids=["returns", "exits"])
def test_child_that_ends_too_early_fails_the_scenario(run: Callable[[], None]) -> None:
    with pytest.raises(SystemExit, match="ended too early"), testbed.child(run) as pid:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_what_is_between_has_a_rest_before_and_after_it(tmp_path: Path) -> None:
    log = testbed.Phases("lost", {})
    with testbed.between(log, Namespace(before=0.02, after=0.01)), log.phase("lost"):
        pass
    log.write(tmp_path / "phases.json")
    phases = json.loads((tmp_path / "phases.json").read_text())["phases"]
    assert [each["name"] for each in phases] == ["before", "lost", "after"]
    before, _, after = (each["end_ns"] - each["start_ns"] for each in phases)
    assert before >= 0.02e9 and after >= 0.01e9
