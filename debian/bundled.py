# SPDX-License-Identifier: GPL-2.0-only
"""List the Python packages in a directory, each with its version and its licence, for debian/copyright.

`python debian/bundled.py DIRECTORY` ends with exit status 1 if the metadata of a package names no licence.
"""

import sys
from importlib.metadata import PackageMetadata, distributions

CLASSIFIER = "License :: OSI Approved :: "


def licence(metadata: PackageMetadata) -> str:
    """Return the licence that a package's metadata names; an empty string if it names none."""
    if expression := metadata.get("License-Expression"):
        return expression
    classifiers = [
        line.removeprefix(CLASSIFIER)
        for line in metadata.get_all("Classifier") or []
        if line.startswith(CLASSIFIER)
    ]
    # Old metadata may have the whole text of a licence here: its first line is the name.
    lines = metadata.get("License", "").strip().splitlines()
    return ", ".join(classifiers) or next(iter(lines), "")


if __name__ == "__main__":
    rows = sorted(
        (found.metadata["Name"], found.version, licence(found.metadata))
        for found in distributions(path=[sys.argv[1]])
    )
    if nameless := [name for name, _, terms in rows if not terms]:
        sys.exit(
            f"debian/bundled.py has to name the licence of {', '.join(nameless)}: the metadata does not."
        )
    for name, version, terms in rows:
        print(f"  {name} {version}: {terms}")
