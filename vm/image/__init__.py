# SPDX-License-Identifier: GPL-2.0-only
"""The machines' disk image, and what is made of Debian's packages."""
