# SPDX-License-Identifier: GPL-2.0-only
import json

import pytest

from tests.conftest import Run
from toolkit.capture import checkup
from toolkit.capture.checkup import Finding
from toolkit.drivers import Driver, names

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
    _findings(monkeypatch, aoe=[GOOD])
    code, out, _ = run("doctor")
    assert code == 0
    assert [line.split(":")[0] for line in out.splitlines() if not line.startswith(" ")] == names()
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
        "aoe": [{"level": "ok", "what": "bcc", "found": "version 0.30.0", "mend": ""}],
        "qlge": [
            {
                "level": "warn",
                "what": "devices",
                "found": "none is bound to this driver",
                "mend": "bring one up to see events",
            }
        ],
    }


def test_unknown_driver_is_one_sentence(run: Run) -> None:
    code, out, err = run("doctor", "e1000e")
    assert (code, out) == (1, "")
    assert err.startswith("toolkit: error: ") and "e1000e" in err and err.count("\n") == 1
