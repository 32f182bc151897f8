# SPDX-License-Identifier: GPL-2.0-only
"""Try everything that a trace needs, and say what is missing and how to mend it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from toolkit.capture import kernel, program
from toolkit.drivers import Driver
from toolkit.errors import UserError

#: Size of the ring of events in the check, in bytes.
_RING = 1 << 20


class Finding(NamedTuple):
    """The result of one check; `mend` is empty where the user has nothing to do."""

    level: Literal["ok", "warn", "fail"]
    what: str
    found: str
    mend: str = ""


def check(driver: Driver) -> list[Finding]:
    """Check what tracing a driver needs, up to compiling and attaching the probes; then detach them.

    :return: findings in the order in which a trace needs them. A check that rests on a failed one is left
        out.
    """
    findings: list[Finding] = []

    def look(what: str, act: Callable[[], Any], say: Callable[[Any], str]) -> Any:
        try:
            value = act()
        except UserError as error:
            found, _, mend = str(error).partition("; ")
            findings.append(Finding("fail", what, found, mend))
            return None
        findings.append(Finding("ok", what, say(value)))
        return value

    look("user", _root, lambda _: "root")
    look("bcc", program.bcc, lambda module: f"version {getattr(module, '__version__', 'not known')}")
    facts = look(
        "module",
        lambda: kernel.facts(driver, kernel.devices(driver)),
        lambda fact: f"{fact['module']}, variant {fact['variant'] or 'not known'}",
    )
    if any(finding.level == "fail" for finding in findings) or facts is None:
        return findings
    macros = look(
        "struct members",
        lambda: program.defines([driver], ring=_RING, full=False, only_devices=False, only_queues=False),
        lambda macros: f"{_offsets(macros)} offsets from BTF",
    )
    if macros is None:
        return findings
    compiled = look(
        "probes",
        lambda: program.compile_program([driver], macros),
        lambda found: f"compile and load, against {found[1]}",
    )
    if compiled is None:
        return findings
    bpf, _ = compiled
    try:
        for attached in program.attach(bpf, program.hooks([driver]), strict=False):
            findings.append(_hook(attached))
    finally:
        bpf.cleanup()
    devices = kernel.devices(driver)
    if devices:
        findings.append(Finding("ok", "devices", ", ".join(map(_device, devices))))
    else:
        findings.append(
            Finding("warn", "devices", "none is bound to this driver", "bring one up to see events")
        )
    return findings


def _offsets(macros: program.Macros) -> int:
    """Return how many members' offsets were found."""
    return sum(name.startswith("OFF_") for found in (macros.common, *macros.local.values()) for name in found)


def _device(device: Mapping[str, Any]) -> str:
    """Return the device's name, and how many queues it has if that is known before they have events."""
    return f"{device['name']} ({len(device['queues'])} queues)" if device["queues"] else str(device["name"])


def _root() -> str:
    kernel.require_root()
    return os.environ.get("SUDO_USER", "root")


def _hook(attached: program.Attached) -> Finding:
    what = f"hook {attached.hook.program}"
    if attached.at:
        return Finding("ok", what, attached.at)
    if attached.hook.required:
        return Finding(
            "fail", what, f"none of {', '.join(attached.hook.at)} ({attached.why})", "trace on another kernel"
        )
    return Finding("warn", what, f"not here, so a trace lacks {attached.hook.missing} ({attached.why})")
