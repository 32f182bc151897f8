# SPDX-License-Identifier: GPL-2.0-only
import toolkit
from tests.conftest import Trace, window, worker_stall
from toolkit.report.analyze import poll_gaps
from toolkit.stalls.selection import Selection


def test_gaps_of_a_part_are_those_of_the_whole_trace(make_trace: Trace) -> None:
    path = make_trace([window(1), *worker_stall(2, 6), *worker_stall(7, 8)])
    title = poll_gaps.draw(toolkit.read(path, selection=Selection(since=1.5, until=6.5))).axes[0].get_title()
    assert title.startswith("Gaps between NAPI polls, in the whole trace\n")
    said = "Shown: from 1.500 s to 6.500 s (00:00:01 to 00:00:06 UTC); 1 of 2 stalls left out."
    assert said in " ".join(title.split())
    assert max(map(len, title.splitlines())) <= 70
