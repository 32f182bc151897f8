# SPDX-License-Identifier: GPL-2.0-only
"""What a NIC and its driver count themselves: frames that were lost, buffers that were missing."""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Iterable, Mapping

from toolkit.capture import kernel, qstats

#: What counts something that went wrong; every driver has names of its own.
_LOSS = re.compile(r"drop|miss|fail|err|no_?buf|fifo|overr|discard|exhaust|oob|out_?of", re.IGNORECASE)

# include/uapi/linux/ethtool.h
_GSTRINGS, _GSTATS, _GSSET_INFO = 0x1B, 0x1D, 0x37
_STATS, _NAME_BYTES = 1, 32


def read(devices: Iterable[str]) -> dict[str, dict[str, int]]:
    """Read the counters of losses of some devices in this network namespace.

    :return: device -> name -> count [frames, buffers or events: the driver's manual says which]. The kernel's
        (``ip -s link``) begin with rx_; the driver's (``ethtool -S``) have its own names; those of a queue
        (qstats.read) begin with it, as ``rx-0 alloc-fail``.
    """
    return {
        device: {name: count for name, count in _of(device, "rx_*").items() if _LOSS.search(name)}
        for device in devices
        if (kernel.NET / device).exists()
    }


def read_all(devices: Iterable[str]) -> dict[str, dict[str, int]]:
    """Read all counters of some devices, those of frames that were sent and received among them.

    :return: as `read`; the kernel's have the names of sysfs (statistics/), as rx_packets and tx_bytes.
    """
    return {device: _of(device, "*") for device in devices if (kernel.NET / device).exists()}


def growth(
    before: Mapping[str, Mapping[str, int]], now: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, int]]:
    """Return by how much counters grew, if they did; a device that came meanwhile is left out."""
    found = {}
    for device in before.keys() & now.keys():
        grown = {name: count - before[device].get(name, 0) for name, count in now[device].items()}
        found[device] = {name: more for name, more in grown.items() if more > 0}
    return {device: found[device] for device in sorted(found) if found[device]}


def _of(device: str, names: str) -> dict[str, int]:
    """Return the driver's counters, also of each queue, and the kernel's whose names match a pattern."""
    found = _ethtool(device) | {
        f"rx-{queue} {name.removeprefix('rx-')}": count
        for queue, counts in qstats.read(device).items()
        for name, count in counts.items()
    }
    for path in sorted((kernel.NET / device / "statistics").glob(names)):
        with contextlib.suppress(OSError, ValueError):
            found[path.name] = int(path.read_text())
    return found


def _ethtool(device: str) -> dict[str, int]:
    """Return the driver's own counters, as ``ethtool -S`` does; none, if it has none.

    A driver may have the same names for each queue: these are added up.
    """
    # struct ethtool_sset_info, ethtool_gstrings, ethtool_stats
    info = kernel.ethtool(device, struct.pack("=IIQI", _GSSET_INFO, 0, 1 << _STATS, 0))
    if info is None or not struct.unpack_from("=Q", info, 8)[0]:
        return {}
    (count,) = struct.unpack_from("=I", info, 16)
    names = kernel.ethtool(device, struct.pack("=III", _GSTRINGS, _STATS, count) + bytes(count * _NAME_BYTES))
    values = kernel.ethtool(device, struct.pack("=II", _GSTATS, count) + bytes(count * 8))
    if names is None or values is None:
        return {}
    texts = (names[12 + place * _NAME_BYTES :][:_NAME_BYTES].partition(b"\0")[0] for place in range(count))
    words = (text.decode(errors="replace").strip() for text in texts)
    found: dict[str, int] = {}
    for word, value in zip(words, struct.unpack_from(f"={count}Q", values, 8), strict=True):
        found[word] = found.get(word, 0) + value
    return found
