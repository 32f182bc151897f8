# SPDX-License-Identifier: GPL-2.0-only
"""What an analysis says, as text: one sentence first, then tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from toolkit import drivers
from toolkit.english import count, duration, listed
from toolkit.report import causes, memory, ticks
from toolkit.report.own_tables import own_tables
from toolkit.report.terminal import say, show
from toolkit.stalls.analysis import Analysis
from toolkit.stalls.classes import BRIEF, RECONFIGURATION, STALL
from toolkit.stalls.shortage import shortage
from toolkit.stalls.slow import SLOW_POLL, SLOW_REFILL, UNPOLLED
from toolkit.stalls.thresholds import Thresholds, sentence
from toolkit.trace.clock import to_utc
from toolkit.trace.ledger import totals

if TYPE_CHECKING:
    from toolkit.traces import Trace

LISTED = 20
"""As many stalls are listed; the files have all."""

QUEUES = 200
"""As many queues are listed, those that stalled longest; the summary has more."""

COUNTERS = 8
"""As many counters of a NIC are told."""

_THREADS = 3
"""As many threads are told that had the CPU while polls were waited for."""

LOWER_BOUNDS = "Events were dropped: a number with ≥ is at least so high."
"""What is said where tables have such numbers."""

_DATED = "%Y-%m-%d %H:%M:%S"


def verdict(analysis: Analysis) -> str:
    """Return a sentence for each device with stalls, the worst first; or one that says that none did.

    Of a trace that is cut off or damaged it first says that the rest is not known; before that, what is shown
    of a trace, if that is not all. Stalls that are told apart (toolkit.stalls.classes) come last.
    """
    part = shown(analysis)
    return f"{part} {_verdict(analysis)}" if part else _verdict(analysis)


def shown(analysis: Analysis) -> str | None:
    """Say what is shown of a trace and how many stalls are not; None if all of it is."""
    part, scan = analysis.shown, analysis.scan
    if part is None:
        return None
    words = [*part.devices, *(f"queue {number}" for number in part.queues)]
    if analysis.span != (scan.began, scan.ended):
        since, until = ((moment - scan.began) / 1e9 for moment in analysis.span)
        utc = " to ".join(wall_times(analysis, np.array(analysis.span)))
        words.append(f"from {since:.3f} s to {until:.3f} s ({utc} UTC)")
    if part.shortest_ns:
        words.append(f"stalls of {seconds(part.shortest_ns)} s and more")
    stalls = part.left_out + len(analysis.stalls)
    left = f"{part.left_out:,} of {stalls:,} stalls" if part.left_out else "no stall"
    return f"Shown: {', '.join(words) or 'all'}; {left} left out."


def wall_times(analysis: Analysis, moments: NDArray[np.int64]) -> list[str]:
    """Return the times of day, in UTC, of moments in trace time [ns]; with dates, if these are several."""
    times = to_utc(analysis.meta, moments)
    days = to_utc(analysis.meta, np.append(moments, analysis.scan.began)).normalize()
    return list(times.strftime("%H:%M:%S" if days.nunique() == 1 else _DATED))


def _verdict(analysis: Analysis) -> str:
    scan, stalls = analysis.scan, analysis.stalls
    start, end = analysis.span
    length = (end - start) / 1e9
    counted = stalls[stalls["class"] == STALL]
    sentences = []
    if analysis.damage:
        until = (scan.ended - scan.began) / 1e9
        sentences.append(f"The trace breaks off after {until:.1f} s: what happened later is not known.")
    if counted.empty:
        hidden = analysis.shown and analysis.shown.left_out
        sentences.append("No stall is in what is shown." if hidden else _nothing(analysis, length))
    longest = counted.loc[counted.groupby("device")["duration_ns"].idxmax()]
    worst = longest.sort_values("duration_ns", ascending=False)
    worst = worst.assign(says=causes.sentences(worst))
    sentences += [
        _stalled(counted[counted["device"] == row["device"]], row, length) for row in worst.to_dict("records")
    ]
    return " ".join([*sentences, *_silent(analysis), *_apart(stalls, analysis.thresholds)])


def doubt(analysis: Analysis) -> str | None:
    """Say why a trace without a stall proves nothing; None if it does."""
    if analysis.damage:
        return "the trace breaks off"
    if analysis.scan.losses:
        return "events were dropped"
    if any((analysis.scan.missed or {}).values()):
        return "the kernel skipped calls of probes"
    return None if analysis.queues["packets"].sum() else "there was no packet"


def _nothing(analysis: Analysis, length: float) -> str:
    queues, why = analysis.queues, doubt(analysis)
    who = ", ".join(dict.fromkeys(queues["device"])) or "no device"
    packets = f"{'at least ' * bool(analysis.scan.losses)}{count(int(queues['packets'].sum()), 'packet')}"
    seen = f"{packets} on {count(len(queues), 'queue')}"
    if analysis.damage:
        return f"Until then no stall was seen on {who} ({seen})."
    if why:
        return f"{why[0].upper()}{why[1:]}: that no stall was seen on {who} in {length:.1f} s proves nothing."
    deaf = drivers.word("deaf", queues["driver"])
    least = analysis.thresholds.brief_under_ns
    so_long = f" for {duration(least)} or longer" if len(analysis.stalls) and least else ""
    return f"No stall: {who} never went {deaf}{so_long} in {length:.1f} s ({seen})."


def _stalled(stalls: pd.DataFrame, longest: Mapping[Any, Any], length: float) -> str:
    number, queues = len(stalls), stalls["queue"].nunique()
    times = "once" if number == 1 else f"{number:,} times"
    (one, *_) = _queues(stalls)
    where = f"{queues} queues" if queues > 1 else f"queue {one}" if one.isdecimal() else one
    much = seconds(longest["duration_ns"])
    also = [
        f"{column.removesuffix('_ns').replace('_', '-')} {seconds(longest[column])} s"
        for column in state_columns(stalls)
        if longest[column] and column != f"{longest['state'].replace('-', '_')}_ns"
    ]
    state = longest["state"] + (f", of it {', '.join(also)}" if also else "")
    deaf = drivers.word("deaf", [longest["driver"]])
    sentence = (
        f"{longest['device']} went {deaf} {times} in {length:.1f} s on {where}, "
        f"{'for' if number == 1 else 'at most for'} {much} s ({state}): {longest['says']}."
    )
    if stalls["open"].any():
        sentence += f" {count(int(stalls['open'].sum()), 'stall')} had not ended when the trace did."
    if stalls["uncertain"].any():
        sentence += (
            f" Uncertain, since events were dropped: {count(int(stalls['uncertain'].sum()), 'stall')}."
        )
    return sentence


def _silent(analysis: Analysis) -> list[str]:
    """Say how long each device was silent outside of its stalls, and in what."""
    least = duration(analysis.thresholds.silence_over_ns)
    words = {SLOW_REFILL: "refill", SLOW_POLL: "poll", UNPOLLED: "wait"}
    after = {UNPOLLED: " for a poll"}
    sentences = []
    for device, mine in analysis.silences.groupby("device"):
        lengths = {state: mine["duration_ns"][mine["state"] == state] for state in words}
        parts = [
            f"in {count(len(length), words[state])}{after.get(state, '')} of {least} or longer "
            f"({seconds(int(length.sum()))} s in all, at most {seconds(int(length.max()))} s)"
            for state, length in lengths.items()
            if len(length)
        ]
        sentences.append(f"Outside of stalls {device} took no frame {listed(parts)}.")
        if whose := _had_cpu(mine[mine["state"] == UNPOLLED]):
            sentences.append(whose)
        if where := ticks.sentence(analysis.ticks[analysis.ticks["device"] == device]):
            sentences.append(where)
    for device, mine in analysis.no_ticks.groupby("device"):
        sentences.append(ticks.no_tick(str(device), mine))
    return sentences


def _had_cpu(waits: pd.DataFrame) -> str:
    """Say which threads had the CPU for most of some waits for a poll; nothing, if no thread is known."""
    threads = waits.groupby(["thread", "tid"])["duration_ns"].sum().nlargest(_THREADS)
    named = zip(threads.index.to_frame().itertuples(index=False), threads, strict=True)
    parts = [f"thread {who.thread} ({who.tid}) for {seconds(int(length))} s" for who, length in named]
    return f"In these waits the CPU was at {listed(parts)}." if parts else ""


def _apart(stalls: pd.DataFrame, thresholds: Thresholds) -> list[str]:
    """Say how many stalls were told apart, and how long they were."""
    brief, caused = (stalls[stalls["class"] == which] for which in (BRIEF, RECONFIGURATION))
    sentences = []
    if len(brief):
        least, sum_ = duration(thresholds.brief_under_ns), seconds(int(brief["duration_ns"].sum()))
        sentences.append(f"Not counted: {count(len(brief), 'stall')} shorter than {least}, {sum_} s in all.")
    if len(caused):
        most = seconds(caused["duration_ns"].max())
        sentences.append(
            f"Not counted: {count(len(caused), 'reconfiguration')}, at most {most} s long: "
            f"{causes.sentences(caused).iloc[0]}."
        )
    return sentences


def _queues(frame: pd.DataFrame) -> list[str]:
    """Return the queue of each row: its number, or its name where that says more."""
    pairs = zip(frame["queue"], frame["name"], strict=True)
    return [str(queue) if name == f"rx-{queue}" else str(name) for queue, name in pairs]


def state_columns(stalls: pd.DataFrame) -> list[str]:
    """Return the columns [ns] that say how long a stall was in each state."""
    names = list(stalls.columns)
    return names[names.index("open") + 1 : names.index("uncertain")]


def _bounds(sums: pd.Series, rows: pd.Series | bool) -> pd.Series:
    """Return the numbers as strings; those of some rows are at least so high."""
    return sums.astype("string").mask(pd.Series(rows, sums.index), "≥ " + sums.astype("string"))


def seconds(nanoseconds: int) -> str:
    """Return a duration [s]: to the microsecond below a millisecond, else to the millisecond, or "-"."""
    if pd.isna(nanoseconds):
        return "-"
    return f"{nanoseconds / 1e9:.6f}" if 0 < nanoseconds < 1_000_000 else f"{nanoseconds / 1e9:.3f}"


def stall_table(analysis: Analysis, rows: int | None = LISTED) -> pd.DataFrame:
    """Return the longest stalls, by start, as strings under headings with units.

    :param rows: at most so many; None for all.
    """
    stalls = analysis.stalls.nlargest(rows or len(analysis.stalls), "duration_ns").sort_values("start_ns")
    table = pd.DataFrame(index=stalls.index)
    table["device"] = stalls["device"]
    table["queue"] = _queues(stalls)
    table["start [s]"] = [f"{(start - analysis.scan.began) / 1e9:.3f}" for start in stalls["start_ns"]]
    table["start [UTC]"] = wall_times(analysis, stalls["start_ns"].to_numpy())
    table["duration [s]"] = stalls["duration_ns"].map(seconds)
    table["state"] = stalls["state"]
    if (stalls["class"] != STALL).any():
        table["class"] = stalls["class"]
    for name in ("reclaim", "refill", "waiting"):
        table[f"{name} [s]"] = stalls[f"{name}_ns"].map(seconds)
    for name in ("refills", "failed", "retries"):
        table[name] = _bounds(stalls[name], stalls["uncertain"])
    marks = {"open": stalls["open"], "uncertain": stalls["uncertain"]}
    table["cause"] = causes.sentences(stalls)
    for mark, marked in marks.items():
        table.loc[marked, "cause"] = f"({mark}) " + table["cause"]
    if "witness_difference_ns" in stalls:
        table["witness [ms]"] = [
            "no gap" if pd.isna(each) else f"{each / 1e6:+.1f}" for each in stalls["witness_difference_ns"]
        ]
    return table.astype("string").fillna("-")


def queues_title(analysis: Analysis) -> str:
    """Return the title of the table of queues, which says whether these are all."""
    count = len(analysis.queues)
    return f"The {QUEUES} queues of {count:,} that stalled longest" if count > QUEUES else "Queues"


def queue_table(analysis: Analysis) -> pd.DataFrame:
    """Return the QUEUES queues that stalled longest, as strings under headings with units."""
    queues = analysis.queues
    if len(queues) > QUEUES:
        queues = queues.nlargest(QUEUES, ["stalled_ns", "packets"]).sort_values(["device", "queue"])
    table = queues[["device", "queue", "stalls"]].assign(queue=_queues(queues))
    for name in ("brief", "reconfigurations"):
        if queues[name].any():
            table[name] = queues[name]
    table["stalled [s]"] = queues["stalled_ns"].map(seconds)
    table["longest [s]"] = queues["longest_ns"].map(seconds)
    if queues["silent_ns"].fillna(0).any():
        table["silent [s]"] = queues["silent_ns"].map(seconds)
    table["open"] = queues["open"]
    for name in ("packets", "polls", "refills", "failed", "alloc_failures", "fallbacks"):
        table[name.replace("_", " ")] = _bounds(queues[name], bool(analysis.scan.losses))
    table["posted min"] = queues["posted_min"]
    for name in ("gap_p99", "gap_max"):
        gaps = queues[f"{name}_ns"]
        table[f"poll {name.replace('_', ' ')} [ms]"] = [
            "-" if pd.isna(each) else f"{each / 1e6:.3f}" for each in gaps
        ]
    return table.astype("string").fillna("-")


def render(trace: Trace, out: TextIO, *, rows: int | None = LISTED) -> None:
    """Write the verdict, the stalls, the queues, and what limits their worth; draw tables on a terminal.

    :param rows: so many stalls at most; None for all.
    """
    analysis = trace.analysis
    say(verdict(analysis), out)
    if len(analysis.stalls):
        listed = stall_table(analysis, rows)
        more = len(analysis.stalls) - len(listed)
        title = f"The {len(listed)} longest stalls of {len(analysis.stalls):,}" if more > 0 else "Stalls"
        show(title, listed, out)
    show(queues_title(analysis), queue_table(analysis), out)
    for line in remarks(analysis, trace.agreement):
        say(line, out)


def remarks(analysis: Analysis, witness: Mapping[str, Any] | None) -> list[str]:
    """Return sentences on kernel, driver, thresholds, missing hooks, dropped events and the witness."""
    meta, scan = analysis.meta, analysis.scan
    (began,) = to_utc(meta, np.array([scan.began]))
    lines = [
        f"Recorded from {began:%Y-%m-%d %H:%M:%S} UTC on, for {(scan.ended - scan.began) / 1e9:.1f} s.",
    ]
    lines += [
        f"Kernel {meta.get('kernel')}, {_traced(each)}, regime: {each.get('regime') or 'unknown'}."
        for each in meta["drivers"]
    ]
    lines += [said] if (said := sentence(analysis.thresholds)) else []
    lines += [
        f"Not attached: {hook['program']}; this trace lacks {hook.get('missing') or 'it'}."
        for each in meta["drivers"]
        for hook in each.get("hooks", [])
        if not hook.get("attached")
    ]
    lines += own_tables(analysis)
    ledger = totals(analysis.scan.ledger)
    lines.append(
        "Events: {attempted:,} attempted, {delivered:,} delivered, {dropped:,} dropped.".format(**ledger)
    )
    lines += [said] if (said := memory.sentence(shortage(analysis.memory, analysis.stalls))) else []
    lines += counted(scan.counters)
    lines += [missed(scan.missed)] if scan.missed else []
    lines += [LOWER_BOUNDS] if analysis.scan.losses else []
    return lines + ([witness_sentence(analysis, witness)] if witness else [])


def _traced(driver: Mapping[str, Any]) -> str:
    """Return a driver of a trace with its build; and whose devices these are, where that is another's."""
    name, module = driver["name"], driver.get("module") or driver["name"]
    variant = driver.get("variant") or "unknown variant"
    return f"{name} ({variant})" if module == name else f"{name} (of {module}, {variant})"


def counted(counters: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Say for each device what it and its driver counted as lost during the trace, the largest first."""
    lines = []
    for device, counts in counters.items():
        most = sorted(counts.items(), key=lambda item: -item[1])
        each = [f"{name} {number:,}" for name, number in most[:COUNTERS]]
        more = [f"{len(most) - COUNTERS} more in summary.json"] if len(most) > COUNTERS else []
        lines.append(f"Meanwhile {device} itself counted: {listed(each + more)}.")
    return lines


def missed(programs: Mapping[str, int]) -> str:
    """Say how often the kernel skipped probes; what these would have told is missing."""
    each = ", ".join(f"{name} {number:,}" for name, number in programs.items())
    calls = count(sum(programs.values()), "call")
    return (
        f"The kernel skipped {calls} of probes, because another program or kprobe was at work on that CPU: "
        f"{each}. What they would have told is missing."
    )


def witness_sentence(analysis: Analysis, witness: Mapping[str, Any]) -> str:
    """Return what the comparison with a witness found; it is always of the whole trace."""
    return f"{'Of the whole trace: ' if analysis.shown else ''}{witness['sentence']}"
