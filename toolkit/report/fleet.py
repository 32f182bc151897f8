# SPDX-License-Identifier: GPL-2.0-only
"""What is found of a fleet, as text: sentences first, then tables."""

from collections.abc import Mapping
from typing import Any, TextIO

import pandas as pd

from toolkit.compare.metrics import amount, heading, number
from toolkit.compare.statistics import ALPHA, Middle, needed
from toolkit.compare.verdict import CANNOT_SAY, NO_DIFFERENCE, gains, harms, interval, too_few_to_tell
from toolkit.drivers import names
from toolkit.english import count, duration, listed
from toolkit.fleet.days import FEWEST_DAYS
from toolkit.fleet.frames import STALL
from toolkit.fleet.hosts import FENCE, FEWEST, REPEATED
from toolkit.fleet.overview import Overview
from toolkit.fleet.rollout import Rollout
from toolkit.printable import printable
from toolkit.report.causes import general_sentence
from toolkit.report.terminal import say, show
from toolkit.report.text import seconds
from toolkit.stalls.thresholds import DEFAULT
from toolkit.stalls.thresholds import sentence as thresholds_sentence

LISTED = 20
"""As many rows of a table are listed; JSON has more, and the dataset has all."""

UNKNOWN = "unknown"
"""What is shown for a name that no trace tells."""


def render(found: Overview, out: TextIO) -> None:
    """Write sentences and tables to a stream; on a terminal tables are drawn, else they are plain."""
    for line in [headline(found) + ".", *about(found)]:
        say(printable(line), out)
    if found.rollout:
        for line in [sentence(found.rollout), *found.rollout.caveats]:
            say(printable(line), out)
        show(metrics_title(found.rollout), metric_table(found.rollout), out)
        for line in [*found.rollout.remarks, *sets(found.rollout)]:
            say(printable(line), out)
    tables = {
        f"Silence by {name}{_first(frame)}": silent_table(found, name) for name, frame in found.groups.items()
    }
    tables[f"Causes of stalls{_first(found.causes)}"] = cause_table(found)
    tables["States"] = state_table(found)
    tables[f"Days{_last(found.days)}"] = day_table(found)
    for title, table in tables.items():
        if len(table):
            show(title, table, out)
    for line in [outliers(found), trend(found)]:
        say(printable(line), out)
    if found.totals["whole"] < found.totals["traces"]:
        show("Traces that are not whole", reason_table(found), out)
    say(printable(rest(found)), out)


def headline(found: Overview) -> str:
    """Say how many hosts were silent, and how long the worst."""
    totals = found.totals
    if not totals["read"]:
        return "Nothing is known: no trace could be read"
    if not totals["hosts"]:
        return f"Hosts are not known; {amount(_rate(totals), 'ns/h')} of silence for each traced hour"
    if not totals["silent"]:
        return f"No host was silent, of {totals['hosts']:,}"
    verb = "was" if totals["hosts"] == 1 else "were"
    silent = f"{totals['silent']:,} of {count(totals['hosts'], 'host')} {verb} silent"
    worst = found.groups["host"].dropna(subset=["host"]).iloc[0]
    return f"{silent}, up to {per_hour(worst['silence_ns_per_h'])} s for each traced hour"


def about(found: Overview) -> list[str]:
    """Return sentences that say what was analyzed, and what of it can be trusted."""
    totals = found.totals
    days = ""
    if totals["first"]:
        days = f", {totals['first']}" + (f" to {totals['last']}" if totals["last"] != totals["first"] else "")
    lines = [
        f"{count(totals['traces'], 'trace')}{days}: {totals['traced_ns'] / 3.6e12:,.1f} h of "
        f"{count(totals['hosts'], 'known host')}."
    ]
    if totals["hosts"]:
        lines.append(
            f"For each traced hour, hosts were silent for {per_hour(totals['host_mean'])} s (mean) and "
            f"{per_hour(totals['host_median'])} s (median)."
        )
    whole = totals["whole"] / totals["traces"]
    lines.append(f"{totals['whole']:,} of {totals['traces']:,} traces are whole ({_percent(whole)}).")
    if totals["without_host"]:
        lines.append(
            f"Of {count(totals['without_host'], 'trace')} the host is {UNKNOWN}: these are in no number of "
            "hosts."
        )
    return lines + thresholds(found)


def thresholds(found: Overview) -> list[str]:
    """Say by which thresholds the traces were analyzed, unless by the defaults; and if by several."""
    if len(found.thresholds) > 1:
        parts = [
            f"{count(number, 'trace')}: silences of {duration(each.silence_over_ns)} or longer, brief stalls "
            f"below {duration(each.brief_under_ns)}"
            for each, number in found.thresholds.items()
        ]
        return [f"Thresholds differ, so that the numbers do not compare. {'; '.join(parts)}."]
    said = map(thresholds_sentence, found.thresholds)
    return [each for each in said if each]


def least_silence(found: Overview) -> str:
    """Return how long a silence is at least: "10 ms", or "10 ms or 50 ms", where thresholds differ."""
    lengths = sorted({each.silence_over_ns for each in found.thresholds})
    return " or ".join(map(duration, lengths)) or duration(DEFAULT.silence_over_ns)


def silent_table(found: Overview, group: str, rows: int = LISTED) -> pd.DataFrame:
    """Return the most silent hosts, devices, kernels, drivers or builds, as strings under headings."""
    frame = found.groups[group].head(rows)
    keys = list(frame.columns[: list(frame.columns).index("hosts")])
    table = pd.DataFrame({key: frame[key].astype("string").fillna(UNKNOWN).map(printable) for key in keys})
    if "host" not in keys:
        table["hosts"] = frame["hosts"].map("{:,}".format)
    table["traces"] = frame["traces"].map("{:,}".format)
    table["silent traces"] = frame["silent"].map("{:,}".format)
    table["traced [h]"] = (frame["traced_ns"] / 3.6e12).map("{:,.2f}".format)
    table["silent [s/h]"] = frame["silence_ns_per_h"].map(per_hour)
    hours = frame["traced_ns"].astype("float64") / 3.6e12
    table["in stalls [s/h]"] = (frame["stalled_ns"].astype("float64") / hours).map(per_hour)
    table["stalls"] = frame["stalls"].map("{:,}".format)
    table["longest [s]"] = frame["longest_ns"].map(seconds)
    table["open"] = frame["open"].map("{:,}".format)
    for name in ("state", "cause"):
        table[name] = frame[name].astype("string").fillna("-")
    return table.astype("string").fillna("-")


def state_table(found: Overview) -> pd.DataFrame:
    """Return the states as strings under headings with units."""
    frame = found.states
    table = pd.DataFrame({"state": frame["state"].astype("string")})
    table["class"] = ["stall" if what == STALL else "outside of stalls" for what in frame["what"]]
    return _with_times(table, frame)


def cause_table(found: Overview, rows: int = LISTED) -> pd.DataFrame:
    """Return the causes of stalls as strings under headings with units."""
    frame = found.causes.head(rows)
    table = pd.DataFrame({"driver": frame["driver"].astype("string")})
    table["cause"] = [_cause(row) for row in frame.to_dict("records")]
    return _with_times(table, frame)


def day_table(found: Overview, rows: int = LISTED) -> pd.DataFrame:
    """Return the last days as strings under headings with units."""
    frame = found.days.tail(rows)
    table = pd.DataFrame({"day": frame["day"].dt.strftime("%Y-%m-%d")})
    table["hosts"] = frame["hosts"].map("{:,}".format)
    table["silent hosts"] = frame["silent"].map("{:,}".format)
    table["traces"] = frame["traces"].map("{:,}".format)
    table["traced [h]"] = (frame["traced_ns"] / 3.6e12).map("{:,.2f}".format)
    table["silent [s/h]"] = frame["silence_ns_per_h"].map(per_hour)
    ends = zip(frame["low"].map(per_hour), frame["high"].map(per_hour), strict=True)
    table["95 % [s/h]"] = ["-" if "-" in pair else " to ".join(pair) for pair in ends]
    return table.astype("string")


def reason_table(found: Overview, rows: int = LISTED) -> pd.DataFrame:
    """Return why traces are not whole, as strings."""
    frame = found.reasons[found.reasons["status"] != "whole"].head(rows)
    return pd.DataFrame(
        {
            "traces": frame["traces"].map("{:,}".format),
            "status": frame["status"].astype("string"),
            "reason": frame["reason"].astype("string").fillna("-").map(printable),
            "such as": frame["example"].map(printable),
        }
    )


def outliers(found: Overview) -> str:
    """Say which hosts are far beyond the rest, and by which rule."""
    rule = found.rule
    if pd.isna(rule["fence"]):
        return (
            f"Outliers are not looked for: {count(int(rule['hosts']), 'silent host')} "
            f"{'is' if rule['hosts'] == 1 else 'are'} too few to say what is usual; {FEWEST} would do."
        )
    words = (
        f"above {per_hour(rule['fence'])} s/h in {REPEATED} or more traces. The median of the silent hosts "
        f"is {per_hour(rule['median'])} s/h, the upper quartile {per_hour(rule['upper'])} s/h; the limit "
        f"lies {FENCE} times the distance of the quartiles above that, on a scale of logarithms"
    )
    if found.outliers.empty:
        return f"No host is an outlier, {words}."
    named = [
        f"{printable(str(row['host']))} ({row['times']:,.0f} times the median)"
        for row in found.outliers.head(5).to_dict("records")
    ]
    more = len(found.outliers) - len(named)
    said = listed([*named, *([f"{more:,} more"] if more else [])])
    return f"{count(len(found.outliers), 'outlier')}: {said}. An outlier is silent {words}."


def trend(found: Overview) -> str:
    """Say whether silences grow or shrink from day to day."""
    known = found.trend
    if not known.hosts:
        return f"A trend is not known: no host has traces of {FEWEST_DAYS} or more days."
    hosts = count(known.hosts, "host")
    of = f"Of {hosts} with traces of {FEWEST_DAYS} or more days, "
    said = f"{known.rising:,} grew more silent from day to day, {known.falling:,} less"
    if pd.isna(known.p):
        return f"{of}none grew more or less silent from day to day."
    sure = (
        "no trend is seen"
        if known.p > ALPHA
        else "silences grow"
        if known.rising > known.falling
        else "silences shrink"
    )
    return f"{of}{said} (sign test of hosts, p = {known.p:.2g}): {sure}."


def rest(found: Overview) -> str:
    """Say where all rows are."""
    return (
        f"All rows are in the dataset {found.directory}: toolkit fleet --query "
        '"SELECT host, sum(duration_ns) / 1e9 AS seconds FROM stalls GROUP BY host ORDER BY seconds DESC" '
        f"-o {found.directory}"
    )


def sentence(found: Rollout) -> str:
    """Return the verdict on a rollout, and sentences that say by how much, how sure, or why not."""
    return f"{found.verdict}: {explain(found)}"


def explain(found: Rollout) -> str:
    """Say by how much the sets differ, how sure that is, or why nothing can be said."""
    if found.why:
        return found.why
    before, after = found.sides
    metrics, better, worse = found.metrics, gains(found.metrics), harms(found.metrics)
    pairs = (
        f"the same {count(before.hosts, 'host')}, each compared with itself"
        if found.paired
        else (f"{count(before.hosts, 'host')} and {after.hosts:,} other ones")
    )
    of = f"From {before.text} to {after.text} ({pairs})"
    if too_few_to_tell(metrics, before.hosts, after.hosts, paired=found.paired):
        return (
            f"{before.hosts:,} and {count(after.hosts, 'host')} are too few: a metric that sets them wholly "
            "apart could still be chance. Traces of at least "
            f"{needed(metrics, paired=found.paired)} hosts of each would do."
        )
    if found.verdict == CANNOT_SAY:
        return (
            f"{of} one harm was traded for another: {_changes(better, found.of)}; "
            f"but {_changes(worse, found.of)}."
        )
    if found.verdict == NO_DIFFERENCE:
        deciding = metrics[(metrics["role"] == "decides") & metrics["difference_low"].notna()]
        left = "; ".join(f"{row['title']} {interval(row)}" for row in deciding.to_dict("records"))
        return (
            f"{of} hosts differ no more than chance explains, which does not make the sets equal. "
            f"Changes of the {found.of} not excluded (95 %): {left or 'none, all hosts are alike'}."
        )
    stalled = (
        f"{before.stalled:,} of {before.hosts:,} hosts stalled before, "
        f"{after.stalled:,} of {after.hosts:,} after."
    )
    return f"{of} {_changes(better if len(better) else worse, found.of)}. {stalled}"


def _changes(metrics: pd.DataFrame, of: Middle) -> str:
    """Say how the first of some metrics changed, by how much, how sure; and which others did likewise."""
    first, *others = metrics.to_dict("records")
    word = {"lower": "fell", "higher": "rose"}[first["direction"]]
    sign = {"lower": -1, "higher": 1}[first["direction"]]
    shown: Middle = of
    if sign * first["difference"] <= 0:
        # Of a metric that most hosts have none of, the medians do not show what the ranks do.
        shown = "mean" if of == "median" else "median"
    sure = [f"95 %: {interval(first)}"] if interval(first) and shown == of else []
    sure += [f"adjusted p = {first['p_adjusted']:.2g}"]
    also = f", and so did {listed([each['title'] for each in others])}" if others else ""
    return (
        f"{first['title']} {word} from a {shown} of {amount(first[f'base_{shown}'], first['unit'])} to "
        f"{amount(first[f'candidate_{shown}'], first['unit'])} ({'; '.join(sure)}){also}"
    )


def sets(found: Rollout) -> list[str]:
    """Say of each set how many hosts and traces were compared, and how many were not, and why."""
    lines = []
    for side in found.sides:
        parts = [
            f"{count(side.hosts, 'host')} with {count(side.traces, 'trace')}",
            f"{side.traced_ns / 3.6e12:,.1f} h traced",
            *(f"{count(number, 'trace')} set aside ({why})" for why, number in side.set_aside.items()),
        ]
        if side.left_out:
            where = "in one set only" if found.paired else "in both sets"
            parts.append(f"{count(side.left_out, 'host')} left out ({where})")
        lines.append(f"{side.name.capitalize()}, {side.text}: {'; '.join(parts)}.")
    return lines


def metrics_title(found: Rollout) -> str:
    """Return the title of the table of metrics."""
    middles = "Medians" if found.of == "median" else "Means"
    return f"{middles} of the hosts{', in pairs' if found.paired else ''}; less is better"


def metric_table(found: Rollout) -> pd.DataFrame:
    """Return the metrics of a rollout as strings under headings; units are in the first column."""
    rows = []
    for row in found.metrics.to_dict("records"):
        low, high = row["difference_low"], row["difference_high"]
        sure = "" if pd.isna(low) else f" ({number(low, row['unit'])} to {number(high, row['unit'])})"
        rows.append(
            {
                "metric": heading(row["title"], row["unit"]),
                "before": _number(row[f"base_{found.of}"], row["unit"]),
                "after": _number(row[f"candidate_{found.of}"], row["unit"]),
                "difference (95 %)": _number(row["difference"], row["unit"]) + sure,
                "ratio (95 %)": _ratio(row),
                "adjusted p": "-" if pd.isna(row["p_adjusted"]) else f"{row['p_adjusted']:.2g}",
                "finding": _finding(row),
            }
        )
    return pd.DataFrame(rows)


def per_hour(nanoseconds: float) -> str:
    """Return seconds for each hour with three digits; "-" if it is not known."""
    if pd.isna(nanoseconds):
        return "-"
    value = nanoseconds / 1e9
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def _finding(row: Mapping[Any, Any]) -> str:
    if not row["varies"]:
        return "the same in all hosts"
    if pd.isna(row["p"]):
        return "not tested"
    word = row["direction"] if row["significant"] else NO_DIFFERENCE
    return f"{word} (only informs)" if row["role"] == "informs" else str(word)


def _ratio(row: Mapping[Any, Any]) -> str:
    if pd.isna(row["ratio"]):
        return "-"
    low, high = row["ratio_low"], row["ratio_high"]
    return f"{row['ratio']:.2f}" + ("" if pd.isna(low) or pd.isna(high) else f" ({low:.2f} to {high:.2f})")


def _number(value: float, unit: str) -> str:
    return "-" if pd.isna(value) else number(value, unit)


def _cause(row: dict[Any, Any]) -> str:
    """Return a cause in its driver's words; its code if this toolkit does not know the driver."""
    if row["driver"] not in names():
        return str(row["cause"])
    # Of which queue the refill was, and how much earlier, is left to the stalls themselves.
    return general_sentence(row | {"cause_queue": None, "cause_earlier": False})


def _with_times(table: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    table["number"] = frame["intervals"].map("{:,}".format)
    table["hosts"] = frame["hosts"].map("{:,}".format)
    table["traces"] = frame["traces"].map("{:,}".format)
    table["in all [s]"] = frame["duration_ns"].map(lambda each: f"{each / 1e9:,.1f}")
    table["longest [s]"] = frame["longest_ns"].map(seconds)
    return table.astype("string").fillna("-")


def _first(frame: pd.DataFrame) -> str:
    return f", the first {LISTED} of {len(frame):,}" if len(frame) > LISTED else ""


def _last(frame: pd.DataFrame) -> str:
    return f", the last {LISTED} of {len(frame):,}" if len(frame) > LISTED else ""


def _rate(totals: Mapping[str, Any]) -> float:
    return float(totals["silence_ns"] / max(totals["traced_ns"] / 3.6e12, 1e-12))


def _percent(share: float) -> str:
    """Return a share in per cent; what is not all is never shown as 100 %."""
    return f"{100 * min(share, 0.999 if share < 1 else 1):.1f} %"
