# SPDX-License-Identifier: GPL-2.0-only
"""Recipes of memory pressure, run inside a testbed machine: ``python3 -m vm.scenarios.knob``.

They need nothing but Python's standard library: what they take of memory is what they say.
"""
