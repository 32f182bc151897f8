# SPDX-License-Identifier: GPL-2.0-only
import functools
import re
import warnings

import pytest

import toolkit
from tests.conftest import Trace, window, worker_stall
from toolkit.report import drawing
from toolkit.report.analyze import durations, poll_gaps, time_spent, timeline
from toolkit.trace.schema import Events

PLOTS = {"timeline": timeline, "durations": durations, "poll_gaps": poll_gaps, "time_spent": time_spent}
CASES: dict[str, list[Events]] = {
    "no events": [],
    "one stall": [window(1), *worker_stall(2, 6), window(7)],
    "many": [each for at in range(1, 100) for each in worker_stall(at / 11, at / 11 + 0.05, queue=at % 2)],
    "16 queues": [window(1 + each / 16, queue=each) for each in range(16)],
}


TITLE = "virtio_net stock, kernel 6.1.0-test"
AXES = {
    "timeline": {"time since the trace began, at 1970-01-01 00:00:00.000 UTC [s]"},
    "durations": {"duration of the stall", "stalls"},
    "poll_gaps": {"gap from the end of one to the next", "share of gaps at least so long [%]"},
    "time_spent": {"share of the stall's time [%]"},
}
TEXTS: dict[str, dict[str, set[str]]] = {
    "no events": {
        "timeline": {"Stalls", "eth1 rx-0", "eth1 rx-1"},
        "durations": {"Duration of the stalls (0)", "no stall"},
        "poll_gaps": {"there was none"},
        "time_spent": {"no stall"},
    },
    "one stall": {
        "timeline": {"buffers", "eth1 rx-0", "starved", "napi-off", "refill failed", "allocation failed"},
        "durations": {"Duration of the stalls (1)", "starved (1)", "one stall"},
        "poll_gaps": {"eth1 rx-0"},
        "time_spent": {"eth1 rx-0, at 2.00 s (00:00:02 UTC): 4.000 s starved", "direct reclaim"},
    },
    "many": {
        "timeline": {"Posted receive buffers and stalls", "buffers", "eth1 rx-0", "eth1 rx-1"},
        "durations": {"Duration of the stalls (99)", "starved (99)"},
        "poll_gaps": {"there was none"},
        "time_spent": {"What the time of each stall went into (the 40 longest of 99)"},
    },
    "16 queues": {
        "timeline": {f"eth1 rx-{queue}" for queue in range(16)},
        "durations": {"no stall"},
        "poll_gaps": {f"eth1 rx-{queue}" for queue in range(16)},
        "time_spent": {"no stall"},
    },
}


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_every_plot_says_what_it_shows(case: str, make_trace: Trace) -> None:
    trace = toolkit.read(make_trace(CASES[case]))
    for name in PLOTS:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            svg = drawing.svg(functools.partial(PLOTS[name].draw, trace))
        assert svg.rstrip().endswith("</svg>")
        # An SVG has each of its texts also as a comment.
        texts = set(re.findall("<!-- (.+) -->", svg))
        assert texts >= {TITLE} | AXES[name] | TEXTS[case][name]


def test_axes_have_units(make_trace: Trace) -> None:
    trace = toolkit.read(make_trace(CASES["one stall"]))
    for draw in (each.draw for each in PLOTS.values()):
        figure = draw(trace)
        figure.draw_without_rendering()
        axis = figure.axes[-1]
        ticks = [each.get_text() for each in axis.get_xticklabels()]
        assert re.search(r"\[(s|%)\]", axis.get_xlabel()) or all(each.endswith("s") for each in ticks)
        title = (
            figure.get_suptitle()
            or figure.axes[0].get_title(loc="center")
            or figure.axes[0].get_title("left")
        )
        assert "virtio_net stock, kernel 6.1.0-test" in title


def test_each_state_has_a_colour_of_its_own() -> None:
    """Those of all drivers are in one plot of a fleet."""
    assert len(set(drawing.STATES.values())) == len(drawing.STATES)
