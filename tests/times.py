# SPDX-License-Identifier: GPL-2.0-only
"""Where the time of `make test` goes: ``python -m tests.times out/tests.xml`` prints a table in Markdown."""

import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

#: So many of the longest tests have a row of their own.
LONGEST = 8


def table(report: Path) -> str:
    """Return a Markdown table of a JUnit report: seconds by file, then the longest tests.

    The time of a test has its fixtures in it: that of a machine's boot is with the first test that needs it.
    """
    cases = [
        (case.get("classname", ""), case.get("name", ""), float(case.get("time", 0)))
        for case in ElementTree.parse(report).iter("testcase")
    ]
    files: dict[str, list[float]] = defaultdict(list)
    for file, _, seconds in cases:
        files[file].append(seconds)
    rows = ["| tests | number | seconds |", "| --- | ---: | ---: |"]
    for file, times in sorted(files.items(), key=lambda item: -sum(item[1])):
        rows.append(f"| {file.removeprefix('tests.').replace('.', '/')} | {len(times)} | {sum(times):.0f} |")
    rows += ["", "| longest test | seconds |", "| --- | ---: |"]
    for _, name, seconds in sorted(cases, key=lambda case: -case[2])[:LONGEST]:
        rows.append(f"| {name} | {seconds:.0f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table(Path(sys.argv[1])))
