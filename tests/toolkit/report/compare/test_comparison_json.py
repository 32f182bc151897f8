# SPDX-License-Identifier: GPL-2.0-only
import io
import json

from tests.conftest import runs_of
from toolkit.compare.comparison import compare, summary
from toolkit.report.compare import comparison_json


def test_the_file_is_the_summary_of_the_comparison() -> None:
    found, file = compare(runs_of([11.0, 12, 13]), runs_of([1.0, 2, 3], "patched")), io.BytesIO()
    comparison_json.render(found, file)
    assert json.loads(file.getvalue()) == summary(found)
