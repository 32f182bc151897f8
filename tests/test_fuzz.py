# SPDX-License-Identifier: GPL-2.0-only
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import fuzz


@pytest.mark.long
def test_odd_traces_are_read_or_refused(tmp_path: Path) -> None:
    """A few seconds of `python -m tests.fuzz`, always the same inputs; a busy machine may be slow.

    In a process of its own, since the memory of that is measured.
    """
    code = (
        "import json, pathlib, sys; from tests import fuzz; said = []; "
        "out = pathlib.Path(sys.argv[1]); "
        "print(json.dumps([fuzz.run(40, seed=1, first=0, out=out, say=said.append, longest=60), said]))"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "failed")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    counts, said = json.loads(done.stdout.splitlines()[-1])
    assert counts["failed"] == 0, said
    assert counts["read"] > 8 and counts["refused"] > 8


def test_an_input_that_needs_too_much_of_the_cpu_is_found() -> None:
    with pytest.raises(fuzz.FuzzError, match="too long"), fuzz._bounded(0.05):
        for _ in itertools.count():
            pass


def test_an_input_that_hangs_without_the_cpu_is_found_and_one_that_waits_is_not() -> None:
    with fuzz._bounded(0.05, hang=30):
        time.sleep(0.1)
    with pytest.raises(fuzz.FuzzError, match="too long"), fuzz._bounded(30, hang=0.1):
        time.sleep(30)
