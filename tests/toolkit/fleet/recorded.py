# SPDX-License-Identifier: GPL-2.0-only
"""A dataset of recorded traces: those of tests/data, and copies with other hosts, kernels, builds and days.

The copies are said to be copies: they show that many rows fit, and prove nothing about any kernel.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from tests.conftest import DATA
from toolkit.fleet import dataset, rows, sources

FIRST = date(2026, 11, 1)


@cache
def recorded() -> dict[str, pd.DataFrame]:
    """Return the tables of all recorded traces; no host is known, since their files name none."""
    found = rows.joined([rows.tables(source, "test", None, None) for source in sources.find([str(DATA)])])
    tables = {}
    for name, table in found.items():
        frame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
        tables[name] = frame.assign(place=frame["place"].str.removeprefix(f"{DATA}/"))
    return tables


def copies(
    hosts: Sequence[str | None],
    *,
    seed: int = 0,
    days: int = 14,
    only: str = "",
    stalls: Sequence[float] | float = 1.0,
    silences: Sequence[float] | float = 1.0,
    **columns: Any,
) -> dict[str, pd.DataFrame]:
    """Return tables of copies of recorded traces, one for each host that is given.

    :param hosts: of the copies; a host may come several times.
    :param days: the copies are spread over so many days.
    :param only: a part of the places that may be drawn from.
    :param stalls: by how much the stalls of each copy are longer, silences: its silences outside of stalls.
    :param columns: values for each copy, such as kernel or build.
    """
    tables = recorded()
    traces = tables["traces"]
    chance = np.random.default_rng(seed)
    drawn = chance.choice(traces.index[traces["place"].str.contains(only)], len(hosts))
    about = pd.DataFrame(
        {"of": traces["place"].to_numpy()[drawn], "host": pd.Series(list(hosts), dtype="object")}
    )
    about["place"] = [f"copies/{number:06}.rxt" for number in range(len(hosts))]
    about["day"] = [FIRST + timedelta(int(day)) for day in chance.integers(0, days, len(hosts))]
    about["longer_stalls"], about["longer_silences"] = stalls, silences
    about = about.assign(**columns)
    return {name: _scaled(table, about) for name, table in tables.items()}


def _scaled(table: pd.DataFrame, about: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the traces that are copied, with the columns of the copies."""
    own = [name for name in about if name not in ("of", "longer_stalls", "longer_silences")]
    kept = table.assign(of=table["place"]).drop(columns=own)
    joined = about.merge(kept, "inner", "of")
    longer = dict.fromkeys(("stalled_ns", "longest_ns"), "longer_stalls") | {"silent_ns": "longer_silences"}
    longer |= {"duration_ns": "longer_stalls"} if "cause" in joined else {}
    longer |= {"duration_ns": "longer_silences"} if "packets" not in joined else {}
    for name, factor in longer.items():
        if name in joined:
            joined[name] = (joined[name].astype("Float64") * joined[factor]).round().astype("Int64")
    return joined.drop(columns=["of", "longer_stalls", "longer_silences"])


def arrow(tables: dict[str, pd.DataFrame]) -> dict[str, pa.Table]:
    """Return tables with the types of a dataset; a column that is missing is null."""
    return {name: _table(frame, dataset.SCHEMAS[name]) for name, frame in tables.items()}


def _table(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    return pa.table(
        [pa.Array.from_pandas(frame[field.name], type=field.type) for field in schema], schema=schema
    )


def write(tables: dict[str, pd.DataFrame], directory: Path) -> Path:
    """Write a dataset."""
    dataset.create(directory)
    dataset.add(directory, arrow(tables))
    return directory


def fleet_of(hosts: int, traces: int, seed: int = 0) -> dict[str, pd.DataFrame]:
    """Return copies as a fleet has them: kernels by host, one host far worse, some hosts not known."""
    chance = np.random.default_rng(seed)
    of = chance.integers(0, hosts, traces)
    kernels = np.array(["6.1.0-56-amd64", "6.12.3-amd64", "6.6.50-cloud"])[of % 3]
    names: list[str | None] = [None if host % 17 == 3 else f"host-{host:04}" for host in of]
    longer = np.exp(chance.normal(-4, 0.5, hosts))
    longer[1] = 1
    factors = list(longer[of])
    return copies(names, seed=seed, kernel=kernels, stalls=factors, silences=factors)
