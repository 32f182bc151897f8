# SPDX-License-Identifier: GPL-2.0-only
"""Many traces, analyzed on Dask into one dataset."""
