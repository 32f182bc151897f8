# SPDX-License-Identifier: GPL-2.0-only
"""Packages that some users do not need: those of an extra, and those that a recorder leaves out."""

import sys
from importlib.util import find_spec
from pathlib import Path
from sysconfig import get_path

from toolkit.errors import UserError


def need(extra: str, *modules: str) -> None:
    """Make sure that the modules of an extra are installed.

    :raises UserError: if a module is missing.
    """
    if names := [module for module in modules if find_spec(module) is None]:
        raise missing(*names, extra=extra)


def missing(*names: str, extra: str = "") -> UserError:
    """Return the error that says which packages are missing, and how to install them for this interpreter.

    :param names: of the modules.
    :param extra: the extra that brings the modules; None if the toolkit itself needs them.
    """
    wanted = f"'.{f'[{extra}]' if extra else ''}'"
    how = f"in the toolkit's checkout, run: {sys.executable} -m pip install {wanted}"
    if _is_distributions():
        how = f"in a virtual environment, in the toolkit's checkout, run: pip install {wanted}"
    return UserError(f"this needs {', '.join(names)}, which is not installed; {how}")


def _is_distributions() -> bool:
    """Tell whether this interpreter is the distribution's, for which pip installs nothing (PEP 668)."""
    return sys.prefix == sys.base_prefix and Path(get_path("stdlib"), "EXTERNALLY-MANAGED").exists()
