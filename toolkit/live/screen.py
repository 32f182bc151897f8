# SPDX-License-Identifier: GPL-2.0-only
"""A running trace on the terminal."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import ClassVar, NamedTuple

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Footer, Input, RichLog, Static

from toolkit.capture.drain import Progress
from toolkit.driver import Driver
from toolkit.english import count
from toolkit.errors import UserError
from toolkit.event import FLAG, KIND, NOT_KNOWN
from toolkit.live.queues import Live, Queue
from toolkit.printable import printable
from toolkit.stalls import slow
from toolkit.trace import gfp
from toolkit.trace.schema import Events

REFRESH = 0.5
"""Seconds between two refreshes; a batch of events arrives as often."""

_OVER = 4
"""Rates are averaged over this many refreshes."""

_FAILURE, _SILENCE = "yellow", "magenta"
"""Colours of lines that may come by the thousand."""

_TOLD_NS = 100_000_000
"""A shorter silence is counted, but has no line: a busy machine has dozens in a second, and they would scroll
the stalls away."""

_BAR = 20
_WITHOUT_BAR = 89
_LINES = 20
_SILENT = "silent\n[s]"
"""A column that a narrow terminal has no room for; the lines below the table say the same."""

_COLUMNS = (
    "queue",
    "posted\n[buffers]",
    "packets\nper s",
    "refills\nfailed",
    "stalls",
    "stalled\n[s]",
    _SILENT,
    "now",
)
"""The column of varying width comes last, so a narrow terminal truncates only that one."""


#: The most lines that wait to be shown; older ones would scroll by unread.
LINES = 1000


class Line(NamedTuple):
    """Something that happened to a queue: the time [ns], the interface, the queue, and a sentence."""

    at: int
    ifindex: int
    queue: int
    what: str


class _Look(NamedTuple):
    """What the screen saw at a moment [s]."""

    at: float
    events: int
    packets: dict[tuple[int, int], int]


def _now() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class Screen(App[None]):
    """The queues as a table, and below what happens to them.

    :param drivers: the traced drivers.
    :param progress: the running trace.
    :param live: its queues.
    :param lines: returns the failures since its last call.
    :param save: saves the last minute as a trace and returns the trace's name.
    :param runs: tells whether the trace still runs; the screen ends with it.
    :param now: returns the time of the traced machine, CLOCK_MONOTONIC [ns].
    :param remark: returns a second line for the head of the screen, such as whose trace it is.
    """

    TITLE = "toolkit watch"
    CSS = "#head { padding: 0 1; } #queues { height: auto; max-height: 60%; } #filter { display: none; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        ("f", "filter", "Filter"),
        ("space", "pause", "Pause"),
        ("s", "save", "Save the last minute"),
        ("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(
        self,
        drivers: Sequence[Driver],
        progress: Progress,
        live: Live,
        lines: Callable[[], list[Line]],
        save: Callable[[], Path],
        runs: Callable[[], bool],
        now: Callable[[], int] = _now,
        remark: Callable[[], str] = str,
    ) -> None:
        super().__init__()
        self._drivers = {driver.name: driver for driver in drivers}
        self._progress, self._live, self._told = progress, live, lines
        self._save, self._lives = save, runs
        self._now, self._remark = now, remark
        self._looks: deque[_Look] = deque(maxlen=_OVER + 1)
        self._paused = False
        self._only = ""

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield DataTable(id="queues", cursor_type="none", header_height=2, zebra_stripes=True)
        yield RichLog(id="log", max_lines=2000, wrap=True, min_width=0)
        yield Input(placeholder="show only what contains this; Enter ends, empty shows all", id="filter")
        yield Footer()

    def on_mount(self) -> None:
        self.query_one(RichLog).can_focus = False
        self.set_focus(None)
        self.look()
        self.set_interval(REFRESH, self.look)

    def look(self) -> None:
        """Show the queues as they are now."""
        if not self._lives():
            self.exit()
        # A timer may run once more while the screen is taken down.
        if self._paused or not self.query("#head"):
            return
        progress = self._progress
        now = self._now()
        queues = dict(self._live.queues)
        packets = {key: queue.packets for key, queue in queues.items()}
        self._looks.append(_Look(now / 1e9, progress.events, packets))
        names = {key: self._label(key, queue) for key, queue in queues.items()}
        self._show_head()
        self._show_queues(queues, names, now)
        self._show_lines(names)

    def _show_head(self) -> None:
        progress = self._progress
        first, last = self._looks[0], self._looks[-1]
        rate = (last.events - first.events) / max(last.at - first.at, REFRESH)
        words = f"{', '.join(self._drivers)}   {last.at - progress.started:.0f} s   "
        words += f"{count(self._live.stalls, 'stall')}   {count(self._live.silences, 'silence')}   "
        words += f"{rate:,.0f} events/s, "
        head = Text(words).append(f"{progress.dropped} dropped", "bold red" if progress.dropped else "")
        head.append("   PAUSED (the trace goes on)" * self._paused, "reverse")
        head.append(f"   only: {self._only}" if self._only else "", "bold")
        if remark := self._remark():
            head.append(f"\n{remark}", "bold")
        self.query_one("#head", Static).update(head)

    def _show_queues(
        self, queues: dict[tuple[int, int], Queue], names: dict[tuple[int, int], str], now: int
    ) -> None:
        table = self.query_one(DataTable)
        wide = self.size.width >= _WITHOUT_BAR
        shown = [name for name in _COLUMNS if wide or name != _SILENT]
        table.clear(columns=True)
        table.add_columns(
            *(Text(each, justify="right" if each in _COLUMNS[2:7] else "left") for each in shown)
        )
        sizes = {
            (device["ifindex"], queue["queue"]): queue["size"]
            for device in self._progress.devices
            for queue in device["queues"]
        }
        first, last = self._looks[0], self._looks[-1]
        width = min(max(self.size.width - _WITHOUT_BAR, 0), _BAR)
        for key, queue in queues.items():
            if self._only not in names[key]:
                continue
            rate = (queue.packets - first.packets.get(key, 0)) / max(last.at - first.at, REFRESH)
            silent = f"{queue.silent.sum() / 1e9:.3f}" if self._live.has_napi(queue.driver) else "-"
            counts = [f"{rate:,.0f}", f"{queue.failed:,}", f"{queue.stalls:,}", _seconds(queue, now)]
            counts += [silent] if wide else []
            table.add_row(
                names[key],
                bar(queue, sizes.get(key), width),
                *(Text(each, justify="right") for each in counts),
                state(queue, now, self._drivers[queue.driver].does if rate else "quiet"),
            )

    def _show_lines(self, names: dict[tuple[int, int], str]) -> None:
        """List the failures, the queues that went deaf, the queues that receive again, and silences."""
        happened = [(line.at, (line.ifindex, line.queue), line.what, _FAILURE) for line in self._told()]
        changes = self._live.changes
        for at, ifindex, number, state, lasted, tid in [changes.popleft() for _ in range(len(changes))]:
            driver = self._drivers[self._live.queues[ifindex, number].driver]
            what, style = f"is {driver.deaf}: {state}", "bold red"
            if lasted is not None and state in slow.STATES:
                if lasted < _TOLD_NS:
                    continue
                what, style = f"took no frame for {lasted / 1e9:.3f} s: {state}", _SILENCE
                if tid in self._progress.threads:
                    what += f" (CPU: {printable(self._progress.threads[tid])} {tid})"
            elif lasted is not None:
                what, style = f"{driver.does} again after {lasted / 1e9:.3f} s", "bold green"
            happened.append((at, (ifindex, number), what, style))
        # A failure comes before the stall that it began at the same time.
        happened.sort(key=itemgetter(0))
        lines = [(at, names.get(key, f"if{key[0]}"), what, style) for at, key, what, style in happened]
        shown = [line for line in lines if self._only in f"{line[1]} {line[2]}"]
        # Of many lines, the oldest failures and silences are left out, but never a stall's begin or end.
        many = [row for row, line in enumerate(shown) if line[-1] in (_FAILURE, _SILENCE)]
        left_out = set(many[: max(len(shown) - _LINES, 0)])
        log = self.query_one(RichLog)
        for row, (at, name, what, style) in enumerate(shown):
            if row not in left_out:
                log.write(Text(f"{at / 1e9 - self._progress.started:10.3f} s  {name}  ").append(what, style))
        if left_out:
            log.write(Text(f"{'':14}({len(left_out)} lines before these are left out)", "dim"))
        # The terminal may have become smaller.
        log.scroll_end(animate=False)

    def _label(self, key: tuple[int, int], queue: Queue) -> str:
        device = self._progress.names.get(key[0], f"if{key[0]}")
        return f"{device} {self._drivers[queue.driver].queue_name(key[1])}"

    def action_pause(self) -> None:
        self._paused = not self._paused
        self._show_head()

    def action_filter(self) -> None:
        box = self.query_one(Input)
        box.display = True
        box.focus()

    def on_input_submitted(self, entered: Input.Submitted) -> None:
        self._only = entered.value.strip()
        entered.input.display = False
        self.set_focus(None)
        self.look()

    def action_save(self) -> None:
        try:
            words = Text(f"saved {self._save()}", "bold")
        except UserError as error:
            words = Text(str(error), "bold red")
        self.query_one(RichLog).write(words)


def failures(events: Events, flags: Mapping[str, int]) -> list[Line]:
    """Return the last LINES failed refills and allocation failures that were sent one by one.

    :param flags: name -> bits of each gfp flag.
    """
    kind = events["kind"]
    refills = (kind == KIND["refill"]) & (events["flags"] & FLAG["complete"] == 0)
    found = []
    for row in events[refills | (kind == KIND["alloc_fail"])][-LINES:]:
        names = gfp.names(int(row["gfp"]), flags)
        what = f"order-{row['order']} allocation failed ({names})"
        if row["kind"] == KIND["refill"]:
            left = "" if row["posted_after"] == NOT_KNOWN else f", {row['posted_after']} buffers left"
            what = f"refill failed ({names}){left}"
        found.append(Line(int(row["ts"]), int(row["ifindex"]), int(row["queue"]), what))
    return found


def bar(queue: Queue, size: int | None, width: int) -> Text:
    """Return the posted buffers as a bar and a number. If the size of the ring is not known, the highest
    number so far stands for it.
    """
    if queue.posted is None:
        return Text("not seen yet", "dim")
    share = min(queue.posted / (size or queue.most or 1), 1)
    full = round(width * share)
    colour = "bold red" if queue.posted == 0 else "yellow" if share < 1 / 4 else "green"
    text = Text("█" * full, colour).append("░" * (width - full), "dim").append(" " * bool(width))
    return text.append(f"{queue.posted:,}" + (f" of {size:,}" if size else ""), "" if share > 0 else colour)


def state(queue: Queue, now: int, otherwise: str) -> Text:
    """Return for how long a queue has been deaf and its states; or what the queue does if it is not."""
    states = dict(queue.states)
    if not states:
        return Text(otherwise, "dim")
    return Text(f"{(now - queue.began) / 1e9:.1f} s {', '.join(states)}", "bold red")


def _seconds(queue: Queue, now: int) -> str:
    return f"{queue.stalled_ns(now) / 1e9:.3f}"
