# SPDX-License-Identifier: GPL-2.0-only
"""Packages that only some users need, by the extra that brings them (pyproject.toml)."""

from importlib.util import find_spec

from toolkit.errors import UserError


def need(extra: str, *modules: str) -> None:
    """Makes sure that the modules of an extra are there.

    :raises UserError: if one is missing.
    """
    if missing := [module for module in modules if find_spec(module) is None]:
        raise UserError(
            f"this needs {', '.join(missing)}, which is not there: pip install 'rx-stall-toolkit[{extra}]'."
        )
