# SPDX-License-Identifier: GPL-2.0-only
"""Describe a trace without an analysis: its machine, its time, its events, and whether it is whole."""

from typing import Any

from toolkit.trace.ledger import totals
from toolkit.trace.reader import TraceReader


def describe(reader: TraceReader) -> dict[str, Any]:
    """Read a trace to its end and describe it.

    :param reader: a trace that was not iterated yet.
    :return: the JSON object of `toolkit info` (docs/trace-file.md).
    """
    meta = reader.meta
    began = now = int(meta["clock"]["monotonic_ns"])
    devices = {device["ifindex"]: device for device in meta.get("devices", [])}
    events, reason = 0, None
    for columns, note in reader:
        events += len(columns["ts"])
        now = int(note["now_ns"])
        reason = note.get("end", {}).get("reason", reason)
        devices |= {device["ifindex"]: device for device in note.get("devices", [])}
    return {
        "trace": reader.path.name,
        "complete": reader.damage is None,
        "damage": reader.damage,
        "reason": reason,
        "format": meta["format"],
        **{name: meta.get(name) for name in ("toolkit", "host", "kernel", "arch", "cpus")},
        "detail": meta.get("options", {}).get("detail"),
        "drivers": [
            {name: driver.get(name) for name in ("name", "variant", "version", "srcversion", "regime")}
            for driver in meta["drivers"]
        ],
        "devices": [
            {"name": device["name"], "driver": device["driver"], "queues": len(device["queues"])}
            for device in devices.values()
        ],
        "realtime_ns": meta["clock"]["realtime_ns"],
        "duration_ns": now - began,
        "events": events,
        "ledger": totals(reader.ledger),
    }
