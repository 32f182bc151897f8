# SPDX-License-Identifier: GPL-2.0-only
"""The tables that drivers declare of their own events, in sentences."""

from toolkit import drivers
from toolkit.driver import Driver, Table
from toolkit.english import count
from toolkit.stalls.analysis import Analysis


def own_tables(analysis: Analysis) -> list[str]:
    """Return sentences on the tables that the drivers of a trace declare."""
    lines = []
    for traced in analysis.meta["drivers"]:
        driver = drivers.load(traced["name"])
        for table in driver.tables:
            lines += _durations(analysis, table) if table.lasts else _pairs(analysis, driver, table)
    return lines


def _pairs(analysis: Analysis, driver: Driver, table: Table) -> list[str]:
    """Return a sentence for each device whose pairs ended in a stall that went on."""
    rows, began = analysis.tables[table.name], analysis.scan.began
    return [
        table.says.format(
            driver=driver.name,
            device=device,
            count=count(len(mine), "time"),
            ends=", ".join(f"{(at - began) / 1e9:.1f}" for at in mine["end_ns"]),
            after=", ".join(f"{left / 1e9:.1f}" for left in mine["after_ns"]),
        )
        for device, mine in rows[rows["after_ns"].fillna(0) > 0].groupby("device")
    ]


def _durations(analysis: Analysis, table: Table) -> list[str]:
    """Return a sentence for each queue with events that last: how long they took, and what they met."""
    every = analysis.meta.get("options", {}).get("detail") == "full"
    some = "at least " * bool(analysis.scan.losses)
    rows, lines = analysis.tables[table.name], []
    # Without a queue they are events of a whole device, of which there are no sums.
    frame = (
        rows.merge(analysis.queues, on=["device", "queue", "name", "driver"]) if "queue" in rows else rows[:0]
    )
    for row in frame.to_dict("records"):
        parts = [
            f"{row['device']} {row['name']}: {some}{count(row['count'], table.noun)}"
            + ("" if every else " of 10 ms and more")
            + (
                f", half of them in {row['p50_ns'] / 1e6:.1f} ms, 99 % in {row['p99_ns'] / 1e6:.1f} ms, "
                f"the longest {row['max_ns'] / 1e6:.1f} ms"
                if row["count"]
                else ""
            )
        ]
        parts += [
            also.says.format(count=some + count(row[also.name or also.column], also.noun))
            for also in table.also
        ]
        lines.append("; ".join(parts) + ".")
    return lines
