# SPDX-License-Identifier: GPL-2.0-only
import subprocess
import sys

import pytest

from toolkit import event

HEADER = "struct rxt_event {\n\t__u64 ts;\t\t/* [ns] when */\n\t__u8 kind;\t\t/* [1] what */\n};\n"


def test_constants_are_those_of_the_header() -> None:
    assert event.KIND["napi_off"] == 7
    assert list(event.FLAG) == [
        "process",
        "complete",
        "in_worker",
        *(f"own_flag_{number}" for number in range(1, 5)),
    ]
    assert list(event.FLAG.values()) == [1, 2, 4, 8, 16, 32, 64]
    assert (event.NOT_KNOWN, event.ALL_QUEUES, event.WINDOW_NS) == (65535, 65535, 10_000_000)


def test_kinds_that_count_posted_buffers_are_marked_in_the_header() -> None:
    assert event.POSTED_KINDS == ("window", "refill", "poll", "blocked", "unblocked", "look")


@pytest.mark.parametrize(
    "line", ["\t__u8 kind;", "\tint kind;\t/* [1] what */", "\t__u8 a, b;\t/* [1] what */"]
)
def test_a_line_of_another_form_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not understood"):
        event.read_header(HEADER.replace("\t__u8 kind;\t\t/* [1] what */", line))


def test_registry_of_drivers_needs_no_arrays() -> None:
    """It is read at each start, also by the completion of a shell."""
    code = "import sys, toolkit.drivers, toolkit.capture.program; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"numpy", "pyarrow", "pandas"} & set(modules.split())
