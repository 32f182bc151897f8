# SPDX-License-Identifier: GPL-2.0-only
"""Whether memory was short, as a sentence."""

from collections.abc import Mapping


def sentence(short: Mapping[str, int | None] | None) -> str:
    """Say how little memory was free, and how long tasks waited for it (toolkit.stalls.shortage)."""
    if not short or short["free_min"] is None:
        return ""
    near = short["free_min_in_stalls"]
    said = f"Memory: at least {_megabytes(short['free_min'])} were free"
    said += f", {_megabytes(near)} around the stalls" if near is not None else ""
    if short["min"] is not None and short["low"] is not None:
        said += f"; the watermarks were min {_megabytes(short['min'])} and low {_megabytes(short['low'])}"
    some, full = short["some_ns"], short["full_ns"]
    if some is not None:
        every = f", all of them for {full / 1e9:.1f} s" if full is not None else ""
        said += f". Tasks waited for memory for {some / 1e9:.1f} s{every}"
    return f"{said}."


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
