# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from vm.inside.scenarios import churn


def test_every_command_runs_also_after_one_that_failed(tmp_path: Path) -> None:
    """A device that could not be taken down is to be up all the same."""
    marks = [tmp_path / name for name in "ab"]
    assert churn._all(*(["touch", str(mark)] for mark in marks))
    for mark in marks:
        mark.unlink()
    assert not churn._all(["touch", str(marks[0])], ["false"], ["touch", str(marks[1])])
    assert all(mark.exists() for mark in marks)


class Bpf:
    """What bcc does with a device."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[tuple[object, ...]] = []
        self._error = error

    def attach_xdp(self, device: str, function: object, flags: int) -> None:
        self.calls.append(("on", device, function, flags))
        if self._error:
            raise self._error

    def remove_xdp(self, device: str, flags: int) -> None:
        self.calls.append(("off", device, flags))


@pytest.mark.parametrize(
    ("error", "done", "calls"),
    [
        (None, True, [("on", "eth1", "f", 0), ("off", "eth1", 0)]),
        (Exception("no memory"), False, [("on", "eth1", "f", 0)]),
    ],
)
def test_xdp_program_is_put_on_and_taken_off(
    error: Exception | None, done: bool, calls: list[tuple[object, ...]]
) -> None:
    bpf = Bpf(error)
    assert churn._xdp(bpf, "eth1", "f") is done
    assert bpf.calls == calls
