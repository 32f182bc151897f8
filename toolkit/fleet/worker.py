# SPDX-License-Identifier: GPL-2.0-only
"""What a worker of the cluster does."""

import re
from collections.abc import Sequence

import distributed

from toolkit.errors import UserError
from toolkit.fleet import rows, rules
from toolkit.fleet.rows import Tables
from toolkit.fleet.sources import Source
from toolkit.stalls.thresholds import Thresholds
from toolkit.version import __version__


def analyze(sources: Sequence[Source], wanted: str, host: str | None, thresholds: Thresholds) -> Tables:
    """Analyze some traces.

    :param wanted: the version of the rules by which they are to be analyzed.
    :param host: a regular expression, as for `rows.tables`.
    :param thresholds: from how long silences and stalls count.
    :raises UserError: if the toolkit on this worker has other rules.
    """
    here = distributed.get_worker()
    if (mine := rules.version()) != wanted.partition("+")[0]:
        raise UserError(
            f"the worker at {here.address} has another toolkit than this ({__version__}, rules {mine}): "
            "install the same one there."
        )
    pattern = re.compile(host) if host else None
    return rows.joined(
        [rows.tables(source, wanted, pattern, here.local_directory, thresholds) for source in sources]
    )
