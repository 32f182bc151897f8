# SPDX-License-Identifier: GPL-2.0-only
import pytest

from toolkit.errors import UserError
from vm.inside import aoe

# Of a machine, with what a read and a write were.
DEBUG = """rttavg: 5480 rttdev: 1839
nskbpool: 43
kicked: 1
maxbcnt: 1024
ref: 0
falloc: 64
ffree: 00000000ed9ea714
525400000102:7:53:64
\tssthresh:32
\ttaint:0
\tr:43340
\tw:16
\teth1
"""


def test_state_of_a_disk_is_read_from_debugfs() -> None:
    assert aoe.read_state(DEBUG) == aoe.State(pool=43, kicked=1, out=7, window=53, sent=43356)


def test_unknown_form_of_a_disks_state_is_refused() -> None:
    with pytest.raises(UserError, match="of another form"):
        aoe.read_state("nskbpool: 43\n")
