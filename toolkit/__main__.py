# SPDX-License-Identifier: GPL-2.0-only
from toolkit.cli import main

main()
