# SPDX-License-Identifier: GPL-2.0-only
"""Each performance claim of the README as a command that prints a ratio against a named peer."""
