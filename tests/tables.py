# SPDX-License-Identifier: GPL-2.0-only
"""Every table of every recorded trace, as files that a change can be compared by.

    python -m tests.tables out/before
    … change something …
    python -m tests.tables out/after && diff -r out/before out/after

A change that is to alter no number leaves both the same.
"""

import argparse
import json
from pathlib import Path

import toolkit
from toolkit.report import text

RECORDINGS = Path(__file__).parent / "data"


def write(out: Path) -> list[Path]:
    """Write the tables of each recording below tests/data, its text and its summary.

    :param out: a folder, made if it is not there; each recording has its own in it.
    :return: the recordings.
    """
    recordings = sorted(RECORDINGS.rglob("*.rxt"))
    for path in recordings:
        folder = out / path.relative_to(RECORDINGS).with_suffix("")
        folder.mkdir(parents=True, exist_ok=True)
        witness, phases = (
            file if file.exists() else None
            for file in (path.with_name("witness.json"), path.with_name("phases.json"))
        )
        trace = toolkit.read(path, witness, phases)
        tables = {"stalls": trace.stalls, "silences": trace.silences, "states": trace.states}
        tables |= {"queues": trace.queues, **trace.tables}
        for name, table in tables.items():
            table.to_csv(folder / f"{name}.csv", index=False)
        summary = {name: value for name, value in trace.summary.items() if name != "toolkit"}
        (folder / "summary.json").write_text(json.dumps(summary, indent=1, default=str))
        with (folder / "text").open("w") as file:
            text.render(trace, file)
    return recordings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    print(f"{len(write(parser.parse_args().out))} recordings")


if __name__ == "__main__":
    main()
