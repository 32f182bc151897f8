# SPDX-License-Identifier: GPL-2.0-only
import json
from pathlib import Path

import pytest

from tests.conftest import Run
from toolkit import drivers
from toolkit.capture import checkup, kernel, packages
from toolkit.capture.checkup import Finding
from toolkit.capture.packages import PackedKernel
from toolkit.driver import Driver
from toolkit.drivers import load, names

GOOD = Finding("ok", "bcc", "version 0.30.0")
PARTLY = Finding("warn", "devices", "none is bound to this driver", "bring one up to see events")
BAD = Finding("fail", "user", "this needs root", "use sudo.")


def _findings(monkeypatch: pytest.MonkeyPatch, **drivers: list[Finding]) -> None:
    """Let the checkup find this; of other drivers that they cannot be traced."""

    def check(driver: Driver) -> list[Finding]:
        return drivers.get(driver.name, [BAD])

    monkeypatch.setattr(checkup, "check", check)


@pytest.mark.parametrize(
    ("findings", "verdict", "code"),
    [
        ([GOOD], "fully observable", 0),
        ([GOOD, PARTLY], "partly observable", 0),
        ([GOOD, PARTLY, BAD], "cannot be traced", 1),
    ],
)
def test_worst_finding_is_the_verdict(
    findings: list[Finding], verdict: str, code: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    _findings(monkeypatch, qlge=findings)
    exit_code, out, err = run("doctor", "qlge")
    assert (exit_code, err) == (code, "")
    assert out.splitlines()[0] == f"qlge: {verdict}"


def test_finding_says_how_to_mend_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    _findings(monkeypatch, aoe=[GOOD, BAD])
    assert run("doctor", "aoe")[1].splitlines() == [
        "aoe: cannot be traced",
        "    ok  bcc: version 0.30.0",
        "  fail  user: this needs root",
        "        -> use sudo.",
    ]


def test_one_driver_that_can_be_traced_is_enough_if_none_was_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that are only declared, just the loaded ones are asked about: there are many."""
    _findings(monkeypatch, aoe=[GOOD])
    monkeypatch.setattr(kernel, "module_identity", {"igb": 7}.get)
    code, out, _ = run("doctor")
    assert code == 0
    asked = [line.split(":")[0] for line in out.splitlines() if not line.startswith(" ")]
    assert asked == [name for name in names() if name == "igb" or not load(name).ring]
    assert run("doctor", "aoe", "qlge")[0] == 1
    _findings(monkeypatch)
    assert run("doctor")[0] == 1


def test_what_all_drivers_have_in_common_is_said_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    _findings(monkeypatch, aoe=[GOOD, BAD, PARTLY], qlge=[GOOD, BAD])
    assert run("doctor", "aoe", "qlge")[1].splitlines() == [
        "all drivers",
        "    ok  bcc: version 0.30.0",
        "  fail  user: this needs root",
        "        -> use sudo.",
        "aoe: cannot be traced",
        "  warn  devices: none is bound to this driver",
        "        -> bring one up to see events",
        "qlge: cannot be traced",
    ]


def test_json_has_the_findings_by_driver(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    _findings(monkeypatch, aoe=[GOOD], qlge=[PARTLY])
    code, out, _ = run("doctor", "aoe", "qlge", "--json")
    assert code == 0
    assert json.loads(out) == {
        "aoe": [{"level": "ok", "what": "bcc", "found": "version 0.30.0", "mend": "", "unknown": []}],
        "qlge": [
            {
                "level": "warn",
                "what": "devices",
                "found": "none is bound to this driver",
                "mend": "bring one up to see events",
                "unknown": [],
            }
        ],
    }


def test_unknown_driver_is_one_sentence(run: Run) -> None:
    code, out, err = run("doctor", "e1001")
    assert (code, out) == (1, "")
    assert err.startswith("toolkit: error: ") and "e1001" in err and err.count("\n") == 1


WITHOUT_IRQ = Finding("warn", "hook irq", "not here, so a trace lacks receive interrupts", "", ("irqs",))


def _packed(monkeypatch: pytest.MonkeyPatch, **drivers: list[list[Finding]]) -> list[list[str]]:
    """Let there be two kernels, and the checkup find this in each; returns what was read."""
    kernels = [PackedKernel("6.1.0-56-amd64", "amd64"), PackedKernel("7.3.4-arm64", "arm64")]
    asked: list[list[str]] = []

    def read(paths: list[Path], *_: object, **__: object) -> list[PackedKernel]:
        asked.append([str(path) for path in paths])
        return kernels

    def check(driver: Driver, kernel: PackedKernel) -> list[Finding]:
        return drivers.get(driver.name, [[], []])[kernels.index(kernel)]

    monkeypatch.setattr(packages, "read", read)
    monkeypatch.setattr(checkup, "check_packed", check)
    return asked


def test_kernels_in_packages_are_a_table_and_what_is_missing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _packed(
        monkeypatch,
        aoe=[[GOOD], [GOOD, WITHOUT_IRQ]],
        virtio_net=[[WITHOUT_IRQ], [WITHOUT_IRQ]],
        qlge=[[BAD], []],
    )
    some = ["aoe", "generic", "qlge", "virtio_net", "xen_netback"]
    monkeypatch.setattr(drivers, "names", lambda: some)
    code, out, err = run("doctor", "--packages", "a.deb", "b.deb", "some/dir")
    assert (code, err) == (0, "")
    assert asked == [["a.deb", "b.deb", "some/dir"]]
    assert [line.rstrip() for line in out.splitlines()] == [
        "[1] 6.1.0-56-amd64 (amd64)",
        "[2] 7.3.4-arm64 (arm64)",
        "               [1]    [2]",
        "aoe           full partly",
        "generic          -      -",
        "qlge            no      -",
        "virtio_net  partly partly",
        "xen_netback      -      -",
        "aoe [2]",
        "  warn  hook irq: not here, so a trace lacks receive interrupts",
        "qlge [1]",
        "  fail  user: this needs root",
        "        -> use sudo.",
        "virtio_net [1] [2]",
        "  warn  hook irq: not here, so a trace lacks receive interrupts",
    ]


@pytest.mark.parametrize(("driver", "code"), [("aoe", 0), ("qlge", 1), ("xen_netback", 1)])
def test_named_driver_has_to_be_in_each_kernel(
    driver: str, code: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    _packed(monkeypatch, aoe=[[GOOD], [WITHOUT_IRQ]], qlge=[[GOOD], []])
    exit_code, out, _ = run("doctor", driver, "--packages", "dir", "--json")
    assert exit_code == code
    (of,) = json.loads(out).values()
    assert [(each["kernel"], each["architecture"]) for each in of] == [
        ("6.1.0-56-amd64", "amd64"),
        ("7.3.4-arm64", "arm64"),
    ]
    assert {each["verdict"] for each in of} <= {"fully observable", "partly observable", "no such driver"}


def test_file_that_is_no_package_is_one_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.deb").write_bytes(b"text")
    code, out, err = run("doctor", "--packages", str(tmp_path / "a.deb"))
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("toolkit: error: ") and "no Debian package" in err
