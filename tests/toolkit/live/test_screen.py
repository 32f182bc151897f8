# SPDX-License-Identifier: GPL-2.0-only
"""The screen of a running trace, as text; on a real terminal it is seen in tests/machine/test_watch.py."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from textual.pilot import Pilot

from tests.conftest import BEGAN, META, S, event, failed, window, worker_stall
from toolkit.capture.drain import Progress
from toolkit.drivers import load
from toolkit.errors import UserError
from toolkit.event import NOBODY
from toolkit.live.queues import Live, Queue
from toolkit.live.screen import Line, Screen, bar, failures

Script = Callable[[Screen, Pilot[None]], Awaitable[None]]


class Shown:
    """A screen of a trace that began 10 s ago, and what it shows; `at` is the time."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        save: str = "watch.rxt",
        lives: bool = True,
        name: str = "virtio_net",
        remark: str = "",
    ) -> None:
        driver = load(name)
        self.at = BEGAN + 10 * S
        self.live = Live([driver], META["devices"])
        self.progress = Progress(started=BEGAN / S, devices=META["devices"])
        self.lines: list[Line] = []
        self._save = save
        monkeypatch.setattr(time, "clock_gettime_ns", lambda _: self.at)
        self.app = Screen(
            [driver], self.progress, self.live, self._take, self._saved, lambda: lives, remark=lambda: remark
        )

    def _take(self) -> list[Line]:
        taken, self.lines = self.lines, []
        return taken

    def _saved(self) -> Path:
        if not self._save:
            raise UserError("no space left.")
        return Path(self._save)

    def text(self) -> str:
        """:return: the lines of the screen."""
        drawn = self.app.export_screenshot()
        rows: dict[float, list[tuple[float, str]]] = {}
        for x, y, words in re.findall(r'<text[^>]* x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>', drawn):
            rows.setdefault(float(y), []).append((float(x), unescape(words).replace("\xa0", " ")))
        return "\n".join("".join(word for _, word in sorted(row)) for _, row in sorted(rows.items()))

    async def until(self, pilot: Pilot[None], *patterns: str) -> str:
        """Wait until the screen matches all of some patterns: its parts are drawn one after the other.

        :return: the lines of the screen.
        """
        deadline = time.monotonic() + 30
        while missing := [each for each in patterns if not re.search(each, text := self.text())]:
            assert time.monotonic() < deadline, f"{missing}: {text}"
            await pilot.pause(0.02)
        return text

    def run(self, script: Callable[[Pilot[None]], Awaitable[None]], columns: int = 120) -> None:
        async def inside() -> None:
            async with self.app.run_test(size=(columns, 24)) as pilot:
                await script(pilot)

        asyncio.run(inside())


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    return Shown(monkeypatch)


def test_screen_shows_each_queue(shown: Shown) -> None:
    shown.live.take(np.concatenate([window(1), *worker_stall(8, 9)[:-2]]))
    shown.progress.dropped = 3

    async def script(pilot: Pilot[None]) -> None:
        text = await shown.until(pilot, "8.000 s  eth1 rx-0  is deaf: starved", "eth1 rx-1 .*quiet")
        assert "virtio_net   10 s" in text and "1 stall " in text and "3 dropped" in text
        assert "[buffers]" in text and "per s" in text and "[s]" in text
        (deaf,) = [line for line in text.splitlines() if "eth1 rx-0" in line and " of " in line]
        assert "0 of 256" in deaf and "2.0 s starved, napi-off" in deaf and "2.000" in deaf
        (calm,) = [line for line in text.splitlines() if "eth1 rx-1" in line]
        assert "not seen yet" in calm and "quiet" in calm

    shown.run(script)


def test_the_head_has_room_for_a_remark(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch, remark="recorder of /var/lib/rx-stall: it has ended")

    async def script(pilot: Pilot[None]) -> None:
        await shown.until(pilot, r"0 dropped\s*\n", r"\n *recorder of /var/lib/rx-stall: it has ended\s*\n")

    shown.run(script, columns=80)


def test_the_time_is_that_of_the_traced_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch)
    shown.live.take(np.concatenate(worker_stall(8, 9)[:-2]))
    there = [BEGAN + 12 * S]
    app = Screen([load("virtio_net")], shown.progress, shown.live, list, Path, lambda: True, lambda: there[0])
    shown.app = app

    async def script(pilot: Pilot[None]) -> None:
        await shown.until(pilot, "virtio_net   12 s", "4.0 s starved")

    shown.run(script)


def test_screen_fits_a_narrow_terminal(shown: Shown) -> None:
    shown.live.take(np.concatenate(worker_stall(9, 12)[1:-2]))

    async def script(pilot: Pilot[None]) -> None:
        await shown.until(pilot, r"eth1 rx-0 +0 of 256 +0 +1 +1 +1\.000 +1\.0 s starved")

    shown.run(script, columns=80)


def test_silences_are_a_column_and_a_line(shown: Shown) -> None:
    shown.live.take(np.concatenate([window(8.5, dur=S // 4, polls=0, refills=1), window(9, dur=S, polls=1)]))

    async def script(pilot: Pilot[None]) -> None:
        text = await shown.until(pilot, "took no frame for 0.250 s: slow-refill", r"silent\b")
        # The poll was slow before its refill, and after it.
        assert text.count("slow-poll") == 2
        assert " 0 stalls   3 silences " in text
        assert re.search(r"eth1 rx-0 .* 0 +0\.000 +1\.000 ", text)

    shown.run(script)


def test_a_wait_says_which_thread_had_the_cpu(shown: Shown) -> None:
    shown.progress.threads[812] = "hog\x1b"
    shown.live.take(
        np.concatenate([event("late", 9, dur=S, tid=812), event("late", 9.5, dur=S // 4, tid=NOBODY)])
    )

    async def script(pilot: Pilot[None]) -> None:
        told = r"for 1\.000 s: unpolled \(CPU: hog\\x1b 812\)"
        await shown.until(pilot, told, r"for 0\.250 s: unpolled *\n")

    shown.run(script)


def test_a_short_silence_is_counted_and_has_no_line(shown: Shown) -> None:
    """They would scroll the stalls away."""
    shown.live.take(
        np.concatenate([event("late", 9, dur=S // 4), *(event("late", at, dur=S // 50) for at in (8, 9.5))])
    )

    async def script(pilot: Pilot[None]) -> None:
        text = await shown.until(pilot, "for 0.250 s: unpolled", " 3 silences ")
        assert text.count("took no frame") == 1

    shown.run(script)


def test_a_driver_without_napi_has_no_sum_of_silences(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch, name="xen_netback")
    shown.live.queues.clear()
    shown.live.take(window(1))

    async def script(pilot: Pilot[None]) -> None:
        await shown.until(pilot, r"eth1 rx-0 .* 0 +0\.000 +- ")

    shown.run(script)


def test_a_stall_as_it_comes_and_goes(shown: Shown) -> None:
    *begin, end = worker_stall(11, 13)
    shown.lines = failures(np.concatenate(begin), META["gfp_flags"])

    async def script(pilot: Pilot[None]) -> None:
        for events, at in ((np.concatenate(begin), 12), (end, 14)):
            shown.live.take(events)
            shown.at = BEGAN + at * S
            shown.app.look()
        text = await shown.until(pilot, "receives again", "256 of 256")
        assert re.search(r"refill failed .*\s+11.000 s  eth1 rx-0  is deaf: starved", text)
        assert "13.000 s  eth1 rx-0  receives again after 2.000 s" in text

    shown.run(script)


def test_a_driver_that_sends_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch, name="aoe")
    shown.live.queues.clear()
    shown.live.take(np.concatenate([event("blocked", 8), event("unblocked", 9)]))

    async def script(pilot: Pilot[None]) -> None:
        silent = "8.000 s  eth1 target-0  is silent: blocked"
        await shown.until(pilot, silent, "9.000 s  eth1 target-0  sends again after 1.000 s")

    shown.run(script)


def test_failures_are_written_down_and_a_flood_is_cut(shown: Shown) -> None:
    shown.lines = [Line(BEGAN + n * 10**7, 3, 1, f"refill failed {n}") for n in range(30)]

    async def script(pilot: Pilot[None]) -> None:
        shown.app.look()
        text = await shown.until(pilot, "refill failed 29")
        assert "0.290 s  eth1 rx-1  refill failed 29" in text
        assert "refill failed 9\n" not in text
        assert "(10 lines before these are left out)" in text

    shown.run(script)


def test_a_flood_does_not_wash_away_what_became_of_a_queue(shown: Shown) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await pilot.resize_terminal(120, 40)
        # All at once: the screen looks by itself, too, twice a second.
        shown.live.take(np.concatenate(worker_stall(11, 13)))
        shown.lines = [Line(BEGAN + 15 * S + n, 3, 1, f"refill failed {n}") for n in range(30)]
        shown.app.look()
        text = await shown.until(pilot, "refill failed 29", "lines before these are left out")
        assert "refill failed 11\n" not in text
        assert "13.000 s  eth1 rx-0  receives again after 2.000 s" in text
        assert "(12 lines before these are left out)" in text

    shown.run(script)


def test_the_last_lines_are_seen_in_a_window_of_any_size(shown: Shown) -> None:
    shown.lines = [Line(BEGAN + n * 10**7, 3, 1, f"refill failed {n}") for n in range(20)]

    async def script(pilot: Pilot[None]) -> None:
        shown.app.look()
        for rows in (30, 12, 24):
            await pilot.resize_terminal(100, rows)
            shown.app.look()
            await shown.until(pilot, "refill failed 19")

    shown.run(script)


def test_keys_filter_pause_and_save(shown: Shown) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("f", *"rx-1", "enter")
        text = await shown.until(pilot, "eth1 rx-1", "only: rx-1")
        assert "eth1 rx-0" not in text
        await pilot.press("f", *["backspace"] * 4, "enter")
        await shown.until(pilot, "eth1 rx-0", r"dropped\s*\n")
        await pilot.press("space")
        await shown.until(pilot, "PAUSED")
        shown.live.take(failed(10, queue=1))
        shown.app.look()
        await pilot.pause(0.1)
        assert "is deaf" not in shown.text()
        await pilot.press("space", "s")
        await shown.until(pilot, r"dropped\s*\n", "saved watch.rxt")
        shown.app.look()
        await shown.until(pilot, "is deaf: starved")

    shown.run(script)


def test_failed_save_is_one_sentence_on_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch, save="")

    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("s")
        await shown.until(pilot, "no space left.")

    shown.run(script)


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
def test_keys_end_the_screen(shown: Shown, key: str) -> None:
    async def script(pilot: Pilot[None]) -> None:
        await pilot.press(key)

    shown.run(script)
    assert shown.app.return_code == 0


def test_screen_ends_with_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch, lives=False)

    async def script(pilot: Pilot[None]) -> None:
        await pilot.pause()
        assert not shown.app.is_running or shown.app._exit

    shown.run(script)


def test_lines_are_failed_refills_and_allocations() -> None:
    events = np.concatenate([window(1), event("alloc_fail", 2, gfp=0xA20, order=1), failed(3, queue=1)])
    assert failures(events, META["gfp_flags"]) == [
        Line(BEGAN + 2 * S, 3, 0, "order-1 allocation failed (GFP_ATOMIC)"),
        Line(BEGAN + 3 * S, 3, 1, "refill failed (GFP_ATOMIC), 0 buffers left"),
    ]


def test_bar_is_as_full_as_the_ring() -> None:
    half, none = Queue("virtio_net", posted=128, most=512), Queue("virtio_net")
    assert str(bar(half, 256, 20)) == "█" * 10 + "░" * 10 + " 128 of 256"
    assert str(bar(half, 100, 20)) == "█" * 20 + " 128 of 100"
    assert str(bar(half, None, 20)) == "█" * 5 + "░" * 15 + " 128"
    assert str(bar(half, 256, 0)) == "128 of 256"
    assert str(bar(none, 256, 20)) == "not seen yet"
