# SPDX-License-Identifier: GPL-2.0-only
"""Shows when and why a network driver stops receiving for lack of buffers."""

from pathlib import Path

__version__ = "0.1.0"

_HERE = Path(__file__).resolve().parent
#: Where the probes are: inside the package when installed, beside it in a checkout.
PROBES = _HERE / "probes" if (_HERE / "probes").is_dir() else _HERE.parent / "probes"
