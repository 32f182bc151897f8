# SPDX-License-Identifier: GPL-2.0-only
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from vm.inside import aoe
from vm.inside.scenarios import held

SAID = {
    "jobs": [
        {
            "read": {
                "total_ios": 7,
                "io_bytes": 7 << 16,
                "clat_ns": {"percentile": {"50.000000": 5, "99.000000": 8}, "max": 9},
            },
            "write": {"total_ios": 0, "io_bytes": 0, "clat_ns": {"max": 0}},
        }
    ]
}
FOUND = {"read": {"requests": 7, "bytes": 7 << 16, "p50_ns": 5, "p99_ns": 8, "max_ns": 9}}


def test_latencies_are_those_of_what_was_done() -> None:
    assert held._latencies(SAID) == FOUND


@pytest.fixture
def fio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fio that writes down its arguments, and its result when it is told to end."""
    program = tmp_path / "fio"
    (tmp_path / "said.json").write_text(json.dumps(SAID))
    program.write_text(
        f"""#!/bin/sh
for word; do case $word in --output=*) output=${{word#--output=}};; esac; done
printf '%s\\n' "$@" >{tmp_path}/arguments
trap 'echo "fio: terminating on signal 15" | cat - {tmp_path}/said.json >"$output"; exit 1' TERM
touch {tmp_path}/running
while :; do sleep 0.02; done
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return program


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_io_goes_on_for_the_block_and_gives_its_latencies(fio: Path) -> None:
    account: dict[str, Any] = {}
    with held._io(["--rw", "randread"], account):
        _wait_for(fio.with_name("running"))
        assert account == {}
    assert account == {"fio": FOUND}
    arguments = fio.with_name("arguments").read_text().splitlines()
    assert f"--filename={aoe.DISK}" in arguments
    assert arguments[arguments.index("--rw") + 1] == "randread"


def test_io_that_does_not_end_gives_none(fio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "END_SECONDS", 0.1)
    stubborn = f"trap '' TERM; echo $$ >{fio.with_name('pid')}; touch {fio.with_name('running')}"
    fio.write_text(f"#!/bin/sh\n{stubborn}\nwhile :; do sleep 0.02; done\n")
    account: dict[str, Any] = {}
    with held._io([], account):
        _wait_for(fio.with_name("running"))
    assert account == {"fio": None}
    os.kill(int(fio.with_name("pid").read_text()), 9)


def test_mirror_is_taken_away_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(held, "output", lambda *words: told.append(" ".join(words)))
    monkeypatch.setattr(subprocess, "run", lambda words: told.append(" ".join(words)))
    with pytest.raises(ZeroDivisionError), held._mirror(500, 250):
        assert told == [
            "ip link add slow0 type dummy",
            "tc qdisc add dev slow0 root netem delay 250ms limit 500",
            "ip link set slow0 up",
            f"tc qdisc add dev {aoe.INITIATOR} clsact",
            f"tc filter add dev {aoe.INITIATOR} egress matchall action mirred egress mirror dev slow0",
        ]
        told.clear()
        raise ZeroDivisionError
    assert told == [f"tc qdisc del dev {aoe.INITIATOR} clsact", "ip link del slow0"]
