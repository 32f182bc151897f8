#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Shows that one frame of aoe's that somebody keeps for four seconds uses up the driver's pool of 256 skbs, though of the
# others each is kept for 5 ms only. With a pool that looks beyond its first skb some 64 are enough.
#
# Needs what ../aoe/reproduce.sh needs. The exit status is 1 if the pool was used up, else 0.
set -eu

said=$("$(dirname "$0")/../aoe/reproduce.sh" 1 5) || :
echo "$said"
echo "$said" | awk '/^nskbpool/ { pool = $2 } END { print "skbs in the pool: " pool; exit pool >= 256 }'
