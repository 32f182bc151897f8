# SPDX-License-Identifier: GPL-2.0-only
"""What one trace shows, as one HTML page that needs nothing else."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

import pandas as pd

from toolkit import drivers
from toolkit.english import count, cpus
from toolkit.printable import printable
from toolkit.report import drawing, memory, page, text, ticks
from toolkit.report.analyze import durations, poll_gaps, time_spent, timeline
from toolkit.report.causes import general
from toolkit.stalls.analysis import Analysis
from toolkit.stalls.classes import STALL
from toolkit.stalls.silences import MEANS
from toolkit.stalls.thresholds import options, sentence
from toolkit.trace.ledger import totals

if TYPE_CHECKING:
    from toolkit.traces import Trace

CAUSES = 50
"""As many causes are listed, the costliest."""


def render(trace: Trace, out: BinaryIO, *, rows: int | None = text.LISTED) -> None:
    """Write the page of a trace.

    :param out: an open file; its name is in the command that makes the page again.
    :param rows: at most so many stalls are listed; None for all.
    """
    analysis = trace.analysis
    figures = {
        "timeline": lambda: timeline.draw(trace),
        "time_spent": lambda: time_spent.draw(trace),
        "durations": lambda: durations.draw(trace),
        "poll_gaps": lambda: poll_gaps.draw(trace),
    }
    stalls = analysis.stalls
    if stalls.empty:
        del figures["time_spent"], figures["durations"]
    why = causes(stalls)
    filled = page.fill(
        "trace.html",
        name=printable(trace.path.name),
        headline=headline(analysis),
        verdict=trace.verdict,
        about=about(trace),
        drawings={name: page.inline(drawing.svg(draw)) for name, draw in figures.items()},
        stalls=text.stall_table(analysis, rows),
        more=max(len(stalls) - rows, 0) if rows else 0,
        states=states(analysis),
        causes=why[:CAUSES],
        more_causes=max(len(why) - CAUSES, 0),
        polls=drivers.word("polls", (each["name"] for each in trace.meta["drivers"])),
        ticks=ticks.table(analysis),
        queues=text.queue_table(analysis),
        queues_title=text.queues_title(analysis),
        certainty=certainty(trace),
        recorded=recorded(trace.meta),
        command=_command(trace, str(getattr(out, "name", "report.html")), rows),
    )
    out.write(filled.encode())


def headline(analysis: Analysis) -> str:
    """Say how many stalls count, and how long the longest was; and how many are not shown.

    Of a trace that breaks off it says so before that.
    """
    left = analysis.shown.left_out if analysis.shown else 0
    return _headline(analysis) + (f" shown, {left:,} left out" if left else "")


def _headline(analysis: Analysis) -> str:
    stalls = analysis.stalls[analysis.stalls["class"] == STALL]
    if stalls.empty and analysis.shown and analysis.shown.left_out:
        return "No stall"
    if stalls.empty:
        why = text.doubt(analysis)
        return f"Nothing is known: {why}" if why else "No stall"
    (longest,) = stalls.nlargest(1, "duration_ns").to_dict("records")
    much = f"{text.seconds(longest['duration_ns'])} s{', and not ended' if longest['open'] else ''}"
    until = "The trace breaks off; until then " if analysis.damage else ""
    number = "one stall of" if len(stalls) == 1 else f"{len(stalls):,} stalls, up to"
    # base.html makes the first letter a capital.
    return f"{until}{number} {much}"


def about(trace: Trace) -> list[str]:
    """Return sentences that say what was traced, when, and on what; and thresholds, unless default."""
    meta = trace.meta
    began = datetime.fromtimestamp(meta["clock"].get("realtime_ns", 0) / 1e9, UTC)
    lines = [
        f"{each['name']}, {each.get('variant') or 'unknown variant'}"
        f"{' (srcversion ' + each['srcversion'] + ')' if each.get('srcversion') else ''}; "
        f"how it retries a failed refill: {each.get('regime') or 'unknown'}."
        for each in meta["drivers"]
    ]
    lines.append(
        f"Kernel {meta.get('kernel')}, {meta.get('arch')}, {cpus(meta.get('cpus'))}; "
        f"traced for {trace.summary['duration_ns'] / 1e9:.1f} s from {began:%Y-%m-%d %H:%M:%S} UTC."
    )
    return lines + ([said] if (said := sentence(trace.analysis.thresholds)) else [])


def states(analysis: Analysis) -> dict[str, str]:
    """Return what each state that was seen means, in its driver's words."""
    seen = analysis.intervals[["driver", "state"]].drop_duplicates()
    slow = {state: MEANS[state] for state in MEANS if (analysis.silences["state"] == state).any()}
    return slow | {
        state.name: state.means
        for driver, name in seen.itertuples(index=False)
        for state in drivers.load(driver).states
        if state.name == name
    }


def causes(stalls: pd.DataFrame) -> pd.DataFrame:
    """Return how many stalls each cause has and what their time went into, the costliest first, as strings
    under headings with units."""
    times = ["duration_ns", "reclaim_ns", "refill_ns", "waiting_ns"]
    groups = stalls.groupby(general(stalls), sort=False)
    found = groups[times].sum(min_count=1).assign(stalls=groups.size(), longest=groups["duration_ns"].max())
    found = found.sort_values("duration_ns", ascending=False)
    headings = [
        "in all [s]",
        "in reclaim [s]",
        "in refills, without reclaim [s]",
        "no refill in process context [s]",
    ]
    table = pd.DataFrame({"cause": found.index, "stalls": found["stalls"].map("{:,}".format)})
    table["longest [s]"] = found["longest"].map(text.seconds)
    for heading, time in zip(headings, times, strict=True):
        table[heading] = found[time].map(text.seconds)
    return table.astype("string")


def certainty(trace: Trace) -> list[tuple[bool, str, str]]:
    """Return what the result rests on: whether that is well, what it is, and what was found."""
    scan, stalls = trace.analysis.scan, trace.analysis.stalls
    ledger = totals(scan.ledger)
    missing = [hook["missing"] or hook["program"] for hook in trace.summary["hooks_missing"]]
    events = "{delivered:,} of {attempted:,} events were delivered, {dropped:,} dropped".format(**ledger)
    lost = sum(end - start for start, end in scan.losses)
    still, uncertain = int(stalls["open"].sum()), int(stalls["uncertain"].sum())
    rows = [
        (not trace.damage, "File", trace.damage or f"whole; the trace was ended by: {scan.reason}."),
        (
            not ledger["dropped"],
            "Ledger",
            f"{events}{f', all within {text.seconds(lost)} s' if lost else ''}."
            f"{' ' + text.LOWER_BOUNDS if scan.losses else ''}",
        ),
        (
            not missing,
            "Hooks",
            f"not attached, so this trace lacks: {'; '.join(missing)}." if missing else "all are attached.",
        ),
    ]
    if scan.missed is not None:
        skipped = text.missed(scan.missed) if scan.missed else "the kernel skipped no call of a probe."
        rows.append((not scan.missed, "Probes", skipped))
    if said := memory.sentence(trace.summary["memory"]):
        rows.append((True, "Memory", said.removeprefix("Memory: ")))
    rows += [(False, "NIC", line) for line in text.counted(scan.counters)]
    if still:
        rows.append(
            (False, "Open", f"{count(still, 'stall')} had not ended when the trace did, and lasted longer.")
        )
    if uncertain:
        rows.append((False, "Uncertain", f"events were dropped in or at {count(uncertain, 'stall')}."))
    if trace.agreement:
        good = trace.agreement["agrees"] and trace.agreement["mostly_explained"]
        rows.append((good, "Witness", text.witness_sentence(trace.analysis, trace.agreement)))
    else:
        rows.append((False, "Witness", "none: nobody else saw when nothing went through."))
    return rows


def recorded(meta: Mapping[str, Any]) -> str:
    """Return the command that records such a trace."""
    options = meta.get("options", {})
    words = ["toolkit", "trace", *(each["name"] for each in meta["drivers"])]
    words += [word for name in options.get("devices", []) for word in ("-d", name)]
    words += [word for queue in options.get("queues", []) for word in ("-q", str(queue))]
    words += ["--detail", "full"] if options.get("detail") == "full" else []
    return "sudo " + shlex.join(words)


def _command(trace: Trace, file: str, rows: int | None) -> str:
    words = ["toolkit", "analyze", str(trace.path), *_options(trace.analysis)]
    words += options(trace.analysis.thresholds)
    words += [] if rows else ["--all"]
    for option, path in (("--witness", trace.witness_path), ("--phases", trace.phases_path)):
        words += [option, str(path)] if path else []
    return printable(shlex.join([*words, "--html", file]))


def _options(analysis: Analysis) -> list[str]:
    """Return the options of `toolkit analyze` that show this part of a trace."""
    part, scan = analysis.shown, analysis.scan
    if part is None:
        return []
    words = [word for name in part.devices for word in ("-d", name)]
    words += [word for number in part.queues for word in ("-q", str(number))]
    for option, moment, whole in (("--from", part.start, scan.began), ("--to", part.end, scan.ended)):
        words += [option, f"{(moment - scan.began) / 1e9:.9g}"] if moment != whole else []
    return words + (["--min-duration", f"{part.shortest_ns / 1e9:g}"] if part.shortest_ns else [])
