# SPDX-License-Identifier: GPL-2.0-only
import io

import pandas as pd

from tests.conftest import runs_of
from toolkit.compare.comparison import compare
from toolkit.report.compare import runs_csv


def test_every_run_is_a_row_also_one_set_aside() -> None:
    aside = runs_of([1.0, 2, 3, 4, 5, 0], "patched", dropped=[0] * 5 + [7])
    file = io.BytesIO()
    runs_csv.render(compare(runs_of([11.0, 12, 13, 14, 15]), aside), file)
    runs = pd.read_csv(io.BytesIO(file.getvalue()))
    assert runs["set"].value_counts().to_dict() == {"candidate": 6, "base": 5}
    assert runs["set_aside"].dropna().tolist() == ["events were dropped"]
