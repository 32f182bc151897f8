# SPDX-License-Identifier: GPL-2.0-only
import pytest

from tests.conftest import Run


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--when", "stall"], "'stall' is no condition: write 'stall > 1s'"),
        (["--listen", "9435"], "--listen 9435: write HOST:PORT, such as 127.0.0.1:9435."),
        (["--listen", "127.0.0.1:99999"], "--listen 127.0.0.1:99999: write HOST:PORT"),
        (["--metrics", "counters.txt"], "counters.txt must end in .prom"),
    ],
)
def test_mistakes_are_said_before_anything_begins(run: Run, words: list[str], sentence: str) -> None:
    code, _, said = run("record", *words)
    assert code == 1
    assert sentence in " ".join(said.split())


def test_a_time_without_a_unit_that_is_known_is_a_wrong_option(run: Run) -> None:
    code, _, said = run("record", "--keep", "4x")
    assert code == 2
    assert "'4x' is not a time such as 1s or 200ms." in " ".join(said.split())
