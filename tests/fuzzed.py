# SPDX-License-Identifier: GPL-2.0-only
"""The inputs of fuzz.py: small valid traces, changed in their structure, and written with valid checksums."""

import copy
import io
import json
import random
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tests.conftest import BEGAN, META, S, event, failed, refilled, window, worker_stall
from toolkit.event import ALL_QUEUES, KIND
from toolkit.trace.schema import CHECK_KEY, EVENT, FORMAT, META_KEY, SCHEMA, Events, checksum

CHAINED = "the checksum of the batch before"
"""Stands for it, in an input that is not yet written."""

HOSTILE = "\x1b]0;pwned\x07<script>$\\frac{\u202e\udcff\n"
_NUMBERS = (
    0,
    1,
    -1,
    2,
    255,
    256,
    65534,
    65535,
    2**31,
    2**32 - 1,
    2**32,
    2**53,
    2**62,
    2**62 + 1,
    2**63,
    2**64,
)


class Input(NamedTuple):
    """A trace before it is a file: its JSON, and events and note of each batch; a witness and phases."""

    meta: Any
    batches: list[tuple[Events, Any]]
    witness: Any
    phases: Any


def seeds() -> list[Input]:
    """Return valid traces of each driver, with stalls of each kind and without any."""
    devices = META["devices"]
    two = [{**devices[0], "ifindex": 4, "name": "eth2"}, *devices]
    batches: dict[str, list[list[Events]]] = {
        "virtio_net": [
            [window(1), *worker_stall(2, 4), failed(4.5, queue=1)],
            [event("poll", 5, polls=1, packets=3), event("irq", 5, irqs=1), window(6, ifindex=4)],
            [
                *(refilled(6.5, queue=1), window(7), event("reclaim", 6.4, dur=9000, flags="process", tid=7)),
                *(event("tick", 7.5, gfp=7, tid=8, dur=S), event("late", 8, dur=S, tid=8)),
            ],
        ],
        "qlge": [[window(1, queue=3), failed(4, queue=3)], [event("napi_on", 6), window(7, queue=3)]],
        "xen_netback": [
            [window(1), event("blocked", 2, flags="stopped", posted_after=3), event("carrier_off", 3)],
            [event("carrier_on", 4, queue=ALL_QUEUES), event("unblocked", 5), window(6)],
        ],
        "aoe": [
            [window(1), event("blocked", 2, flags="held", posted_after=9), event("timer", 3)],
            [event("request", 3, dur=S), event("retransmit", 4), event("unblocked", 5), window(6)],
        ],
    }
    found = []
    for name, parts in batches.items():
        traced = {**META["drivers"][0], "name": name, "module": name}
        meta = {**META, "drivers": [traced], "devices": [{**device, "driver": name} for device in two]}
        written = [np.concatenate(part) for part in parts]
        notes: list[dict[str, Any]] = [{"now_ns": BEGAN + 3 * number * S} for number in range(len(parts))]
        notes[-1]["devices"] = meta["devices"]
        notes[-1]["threads"] = [{"tid": 8, "name": "hog"}]
        notes[-1]["stacks"] = [{"stack": 7, "functions": ["do_idle", "fill"]}]
        notes[-1]["memory"] = [
            {"at_ns": BEGAN + S, "free": 9, "min": 2, "low": 3, "some_ns": 4, "full_ns": 0},
            {"at_ns": BEGAN + 2 * S},
        ]
        gap = {"start_ns": 2 * S, "duration_ns": 2 * S, "refused": 7}
        clock = {"offset_ns": BEGAN, "error_ns": 1000}
        witness = {"device": "eth1", "sent": 9, "refused": 7, "rate": 5000, "gaps": [gap], "clock": clock}
        phase = {"name": "hold", "start_ns": BEGAN + S, "end_ns": BEGAN + 5 * S, "shortage": True}
        end = (np.empty(0, EVENT), {"now_ns": BEGAN + 10 * S, "end": {"reason": "duration"}})
        whole = [*zip(written, notes, strict=True), end]
        for version in (1, FORMAT):
            meta = {**meta, "format": version}
            batches_of = _counted(meta, whole)
            found.append(Input(meta, batches_of, witness, {"scenario": "knob", "phases": [phase]}))
    return found


def _version(meta: Any) -> int:
    """Return the format of an input; one that is odd is written like the newest."""
    return 1 if isinstance(meta, dict) and meta.get("format") == 1 else FORMAT


def _counted(meta: Any, batches: list[tuple[Events, Any]]) -> list[tuple[Events, Any]]:
    """Return the batches with the ledger that goes with their events in this order, and a chain."""
    read = np.zeros(256, np.int64)
    found = []
    for events, note in batches:
        kinds = np.bincount(events["kind"], minlength=256)
        read += kinds
        more: dict[str, Any] = {}
        for name, number in KIND.items():
            if _version(meta) == 1:
                total = int(read[number])
                more[name] = {"attempted": [total, 0], "delivered": [total, 0], "dropped": [0, 0]}
            elif count := int(kinds[number]):
                more[name] = {"cpu": [0], "attempted": [count], "delivered": [count], "dropped": [0]}
        chain = {} if _version(meta) == 1 else {"before": CHAINED}
        found.append((events, {**note, **chain, "ledger": more} if isinstance(note, dict) else note))
    return found


def make(chance: random.Random, valid: list[Input]) -> Input:
    """Return a changed copy of one of the seeds."""
    found = copy.deepcopy(chance.choice(valid))
    for _ in range(chance.choice((1, 1, 2, 4))):
        what = chance.randrange(8)
        if what < 2:
            found = found._replace(meta=_changed(chance, found.meta))
        elif what == 2:
            number = chance.randrange(len(found.batches))
            events, note = found.batches[number]
            found.batches[number] = events, _changed(chance, note)
        elif what < 5:
            number = chance.randrange(len(found.batches))
            events, note = found.batches[number]
            found.batches[number] = _changed_events(chance, events), note
        elif what == 5:
            found = found._replace(batches=_moved(chance, found.batches))
        elif what == 6:
            found = found._replace(witness=_changed(chance, found.witness))
        else:
            found = found._replace(phases=_changed(chance, found.phases))
    # Most would be refused for their ledger, and nothing behind it would be reached.
    if chance.random() < 0.8:
        found = found._replace(batches=_counted(found.meta, found.batches))
    return found


def _odd_value(chance: random.Random) -> Any:
    """Return a value that fits hardly anywhere."""
    deep: Any = 0
    for _ in range(chance.choice((3, 90, 2000)) if chance.random() < 0.05 else 0):
        deep = [deep]
    values = [
        *(
            None,
            True,
            False,
            0.5,
            -1e300,
            float("nan"),
            float("inf"),
            [],
            {},
            "",
            "0",
            HOSTILE,
            "x" * 5000,
            deep,
        ),
        *_NUMBERS,
        {HOSTILE: HOSTILE},
        [None] * chance.choice((1, 300)),
        BEGAN + chance.randrange(-S, 20 * S),
        10**400,
    ]
    return chance.choice(values)


def _changed(chance: random.Random, value: Any) -> Any:
    """Return JSON with one place changed."""
    if not isinstance(value, dict | list) or not value or chance.random() < 0.1:
        return _odd_value(chance)
    value = copy.copy(value)
    place = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
    inner = value[place]
    if isinstance(inner, dict | list) and chance.random() < 0.8:
        value[place] = _changed(chance, inner)
        return value
    match chance.randrange(6):
        case 0:
            del value[place]
        case 1 if isinstance(value, dict):
            value[HOSTILE] = value.pop(place)
        case 1:
            value.append(copy.deepcopy(inner))
        case 2 if isinstance(inner, str):
            value[place] = chance.choice((inner + HOSTILE, "$" + inner + "$", inner * 90, "_" + inner))
        case 2 if isinstance(inner, int):
            value[place] = inner + chance.choice((-1, 1, 256, S))
        case _:
            value[place] = _odd_value(chance)
    return value


def _changed_events(chance: random.Random, events: Events) -> Events:
    """Return events with some values changed, or with more or fewer of them."""
    events = np.concatenate([events] * chance.choice((1, 1, 1, 2, 40)))
    if not len(events):
        return window(chance.random() * 10)
    kept = np.array([chance.random() < 0.9 for _ in range(len(events))])
    events = events[kept]
    for _ in range(chance.choice((0, 1, 3)) if len(events) else 0):
        name = chance.choice(EVENT.names or ())
        most = int(np.iinfo(EVENT[name]).max)
        rows = slice(None) if chance.random() < 0.2 else chance.randrange(len(events))
        near = int(events[name][0]) + chance.choice((-1, 1, S))
        value = chance.choice((0, 1, most, most - 1, chance.choice(_NUMBERS), chance.randrange(most), near))
        events[name][rows] = min(max(value, 0), most)
    return events


def _moved(chance: random.Random, batches: list[tuple[Events, Any]]) -> list[tuple[Events, Any]]:
    """Return the batches with one missing, twice or in another place."""
    batches = list(batches)
    number = chance.randrange(len(batches))
    match chance.randrange(5):
        case 0:
            del batches[number]
        case 1:
            batches.insert(chance.randrange(len(batches)), batches[number])
        case 2:
            batches.insert(chance.randrange(len(batches)), batches.pop(number))
        case 3:
            batches.reverse()
        case _:
            batches = batches * chance.choice((2, 30))
    return batches or [(np.empty(0, EVENT), {})]


def save(found: Input, folder: Path, chance: random.Random) -> Path:
    """Write an input as a trace, its witness and its phases; at times with some bytes changed.

    :return: the trace.
    """
    path = folder / "fuzz.rxt"
    columns = list(SCHEMA)
    if chance.random() < 0.03:
        chance.choice((columns.reverse, columns.pop, lambda: columns.append(pa.field("more", pa.int8()))))()
    meta = _encoded(found.meta)
    check = chance.choice((checksum(meta, []), b"0")) if chance.random() < 0.02 else checksum(meta, [])
    schema = pa.schema(columns, {META_KEY: meta, CHECK_KEY: check})
    out = io.BytesIO()
    with pa.ipc.new_stream(out, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as stream:
        check = checksum(meta, [])
        for events, note in found.batches:
            arrays = [
                pa.array(events[field.name])
                if field.name in SCHEMA.names
                else pa.nulls(len(events), pa.int8())
                for field in columns
            ]
            if chance.random() < 0.01 and len(events):
                arrays[0] = pa.array([None] * len(events), columns[0].type)
            if isinstance(note, dict) and note.get("before") == CHAINED:
                note = {**note, "before": check.decode()}
            written = _encoded(note)
            contiguous = [np.ascontiguousarray(events[name]) for name in SCHEMA.names]
            check = checksum(written, contiguous, _version(found.meta))
            batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
            stream.write_batch(batch, custom_metadata={META_KEY: written, CHECK_KEY: check})
    data = bytearray(out.getvalue())
    if chance.random() < 0.1:
        del data[chance.randrange(len(data)) :]
    for _ in range(chance.choice((1, 3)) if data and chance.random() < 0.1 else 0):
        data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
    path.write_bytes(data)
    for name, about in (("witness.json", found.witness), ("phases.json", found.phases)):
        (folder / name).write_bytes(_encoded(about))
    return path


def _encoded(value: Any) -> bytes:
    """Return JSON, also of what is too deep for Python's own writer."""
    try:
        return json.dumps(value).encode()
    except RecursionError:
        return b"[" * 5000 + b"]" * 5000
