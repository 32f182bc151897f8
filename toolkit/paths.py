# SPDX-License-Identifier: GPL-2.0-only
"""Where the package's own files are."""

from pathlib import Path

_HERE = Path(__file__).resolve().parent

PROBES = _HERE / "probes" if (_HERE / "probes").is_dir() else _HERE.parent / "probes"
"""The directory of the probes: inside the package when installed, beside it in a checkout."""
