# SPDX-License-Identifier: GPL-2.0-only
"""On the kernel that runs here, where it lets this user load programs; tests on machines show it, too."""

import re
import time

import pytest

from tests.toolkit.capture.test_loader import LEAVE
from toolkit.capture import bpf_programs, loader
from toolkit.capture.bpf_programs import Code
from toolkit.capture.compiled import Compiled
from toolkit.errors import UserError


def test_an_address_is_in_the_program_that_has_not_ended_before_it() -> None:
    codes = [Code(100, 150, "bpf_prog_1_a"), Code(150, 151, "bpf_prog_2_b"), Code(300, 400, "bpf_prog_3_c")]
    names = {address: bpf_programs.name_at(codes, address) for address in (99, 100, 149, 150, 151, 300, 400)}
    assert names == {
        99: None,
        100: "bpf_prog_1_a",
        149: "bpf_prog_1_a",
        150: "bpf_prog_2_b",
        151: None,
        300: "bpf_prog_3_c",
        400: None,
    }


def test_a_program_is_known_as_long_as_it_is_loaded() -> None:
    name = "young_program"
    try:
        program = loader.load(Compiled("", "GPL", [], {name: LEAVE}), {})
        loader.attach(program, "raw_tracepoint", "sched_switch", name)
    except (UserError, OSError) as error:
        pytest.skip(f"no BPF here: {error}")
    try:
        called = re.compile(f"bpf_prog_[0-9a-f]{{16}}_{name}")
        (code,) = (each for each in bpf_programs.loaded() if called.fullmatch(each.name))
        assert 0 < code.end - code.start < 4096
    finally:
        loader.detach(program)
        loader.unload(program)
    # The kernel frees it when no CPU can be in it any more.
    deadline = time.monotonic() + 30
    while code in bpf_programs.loaded() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert code not in bpf_programs.loaded()


def test_a_user_who_may_not_ask_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise PermissionError

    monkeypatch.setattr(loader, "asked", refuse)
    assert bpf_programs.loaded() == []
