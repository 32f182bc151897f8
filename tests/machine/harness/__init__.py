# SPDX-License-Identifier: GPL-2.0-only
"""What the tests on machines share: machines and their tracers, terminals, Vagrant, a peer on the wire."""
