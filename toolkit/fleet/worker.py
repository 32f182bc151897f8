# SPDX-License-Identifier: GPL-2.0-only
"""What a worker of the cluster does."""

import re
from collections.abc import Sequence

import distributed

from toolkit.errors import UserError
from toolkit.fleet import rows, rules
from toolkit.fleet.rows import Tables
from toolkit.fleet.sources import Source
from toolkit.version import __version__


def analyze(sources: Sequence[Source], wanted: str, host: str | None) -> Tables:
    """Analyse some traces.

    :param wanted: the version of the rules by which they are to be analysed (run.rules_version).
    :param host: a regular expression, as for `rows.tables`.
    :raises UserError: if the toolkit on this worker has other rules.
    """
    if (mine := rules.version()) != wanted.partition("+")[0]:
        raise UserError(
            f"the toolkit of the worker at {distributed.get_worker().address} ({__version__}, rules {mine}) "
            "has other rules than this one: install the same toolkit there."
        )
    scratch = distributed.get_worker().local_directory
    pattern = re.compile(host) if host else None
    return rows.joined([rows.tables(source, wanted, pattern, scratch) for source in sources])
