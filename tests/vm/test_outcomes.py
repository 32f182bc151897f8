# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from vm import outcomes
from vm.paths import CHECKOUT

CONSOLE = """Linux boots\r
eth1: up\r
BUG: kernel NULL pointer dereference, address: 00000000000000c8\r
Oops: 0000 [#1] PREEMPT SMP PTI\r
RIP: 0010:e100_poll+0x22a/0x5e0 [e100]\r
RIP: 0010:default_idle+0xb/0x10\r
Kernel panic - not syncing: Fatal exception in interrupt\r
Rebooting\r
"""
LIST = """eth1: up
list_add double add: new=ffff888006a8f480, prev=ffff888006a8f480, next=ffff88803e932e40.
kernel BUG at lib/list_debug.c:33!
invalid opcode: 0000 [#1] PREEMPT SMP NOPTI
RIP: 0010:__list_add_valid.cold+0x23/0x5b
Call Trace:
 __napi_schedule+0x67/0xa0
 ? tulip_refill_rx+0x210/0x210 [tulip]
 call_timer_fn+0x27/0x130
Modules linked in: e100 tulip mii
Kernel panic - not syncing: Fatal exception in interrupt
"""


def test_panic_is_what_the_console_says_of_it() -> None:
    said = outcomes.panic(CONSOLE, "e100")
    assert said.splitlines()[0].startswith("BUG: kernel NULL pointer")
    assert said.splitlines()[-1] == "Kernel panic - not syncing: Fatal exception in interrupt"
    assert outcomes.place(said) == "e100_poll+0x22a/0x5e0 [e100]"


def test_panic_of_a_list_belongs_to_the_module_in_the_call_trace() -> None:
    said = outcomes.panic(LIST, "tulip")
    assert said.splitlines()[0].startswith("list_add double add")
    assert outcomes.place(said) == "__list_add_valid.cold+0x23/0x5b"
    # A module that is only loaded has no part in it.
    assert outcomes.panic(LIST, "e100") == ""


@pytest.mark.parametrize(
    "console",
    [
        CONSOLE.replace("[e100]", "[e1000]"),
        CONSOLE.replace(" [e100]", ""),
        CONSOLE.partition("Kernel panic")[0],
        CONSOLE.replace("BUG: ", "").replace("Oops: ", ""),
        "",
    ],
    ids=["of another module", "of the kernel", "it goes on", "without a reason", "silent"],
)
def test_other_ends_are_no_panic_of_the_driver(console: str) -> None:
    assert outcomes.panic(console, "e100") == ""


def test_outcomes_of_runs_are_read_in_order(tmp_path: Path) -> None:
    recorded = CHECKOUT / "tests/data/xen_netback"
    for number, run in enumerate(("paused", "unfilled", None), 1):
        (tmp_path / f"{number:03}").mkdir()
        if run:
            (tmp_path / f"{number:03}/trace.rxt").symlink_to(recorded / run / "trace.rxt")
        else:
            (tmp_path / f"{number:03}" / outcomes.PANIC).write_text(CONSOLE)
    (tmp_path / "notes").touch()
    # Of a guest that was paused netback said that it was ready; of one whose memory was short it did not.
    assert outcomes.read(tmp_path) == [{"flaps"}, set(), {"panic"}]


def test_three_runs_of_each_can_decide() -> None:
    (found,) = outcomes.compare("stock", [{"panic"}] * 3, "patched", [set()] * 3)
    assert found["verdict"] == "improved"
    assert found["p"] == pytest.approx(0.031, abs=0.001)
    assert found["sentence"] == (
        "improved: panic in 3 of 3 runs of stock, in 0 of 3 runs of patched (p = 0.031)."
    )
    (found,) = outcomes.compare("stock", [set()] * 3, "patched", [{"panic"}] * 3)
    assert found["verdict"] == "worse"


def test_fewer_runs_and_equal_ones_do_not_decide() -> None:
    (found,) = outcomes.compare("stock", [{"panic"}], "patched", [set()])
    assert found["verdict"] == "no difference seen"
    assert found["base"] == {"name": "stock", "runs": 1, "happened": 1}
    (found,) = outcomes.compare("stock", [{"panic"}] * 3, "patched", [{"panic"}] * 3)
    assert found["verdict"] == "no difference seen"
    assert outcomes.compare("stock", [set()], "patched", [set()]) == []


def test_of_a_run_that_panicked_nothing_else_is_known() -> None:
    found = outcomes.compare("stock", [{"panic"}, {"panic"}, set()], "patched", [{"spin"}] * 3)
    assert [(each["outcome"], each["base"]["runs"], each["verdict"]) for each in found] == [
        ("panic", 3, "no difference seen"),
        ("spin", 1, "no difference seen"),
    ]
    (only,) = outcomes.compare("stock", [{"panic"}] * 3, "patched", [{"spin"}] * 3)
    assert (only["outcome"], only["verdict"]) == ("panic", "improved")


def test_only_a_driver_that_claims_what_it_did_not_take_spins() -> None:
    traces = sorted((CHECKOUT / "tests/data").rglob("*.rxt"))
    assert len(traces) > 15
    spinning = [path.parent.name for path in traces if "spin" in outcomes.of_trace(path)]
    assert spinning == ["virtio_net_spinning"]
