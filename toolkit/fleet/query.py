# SPDX-License-Identifier: GPL-2.0-only
"""Ask a dataset in SQL, by DuckDB."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from toolkit.errors import UserError
from toolkit.extras import need
from toolkit.fleet import dataset


def query(directory: Path | str, sql: str) -> pd.DataFrame:
    """Return the result of a query; the tables are traces, stalls, silences and queues.

    Tables are read as far as the query needs them. The query reads nothing else, and writes nothing.

    :raises UserError: if the directory is no dataset, or if the SQL is wrong.
    """
    need("fleet", "duckdb")
    # Not at the top: an overview does without.
    import duckdb

    directory = Path(directory)
    dataset.check(directory)
    with duckdb.connect(config={"python_enable_replacements": False}) as connection:
        for name, schema in dataset.SCHEMAS.items():
            files = [part / f"{name}.parquet" for part in dataset.parts(directory)]
            # A part that an older toolkit wrote may lack columns: they are null.
            connection.register(name, ds.dataset(files, schema=schema, format="parquet"))
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        try:
            found = connection.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            raise UserError(f"the query cannot be answered: {_first_sentence(str(error))}") from None
        except AttributeError:
            # DuckDB has no result for a statement that is no query.
            raise UserError("the query has no result: write SELECT …") from None
    # Numbers that are not known do not make floats of those that are.
    kinds = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}
    frame: pd.DataFrame = found.to_pandas(types_mapper=kinds.get)
    return frame


def _first_sentence(message: str) -> str:
    """Return what DuckDB says, without the picture of the place in the query."""
    lines = [line.strip() for line in message.splitlines()]
    kept = lines[: lines.index("")] if "" in lines else lines
    return " ".join(kept).rstrip(".") + "."
