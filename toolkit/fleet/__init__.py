# SPDX-License-Identifier: GPL-2.0-only
"""Many traces, analysed on Dask into one dataset."""
