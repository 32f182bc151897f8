#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Shows that reads from an AoE disk hang after somebody kept the frames that aoe sent for four seconds.
#
#   reproduce.sh [FRAMES [MS]]       so many frames are kept at most: 300 by default, which is all that aoe can send.
#                                    With MS each frame is kept for so long besides, as by a NIC that is slow to clean up.
#
# Needs root, and of Debian the packages iproute2 and vblade. The disk is a file, served over a pair of veth devices;
# take a machine that uses no other AoE disk, since the module is removed at the end. The exit status is 0 if the reads
# go on, 1 if they hang.
set -eu

frames=${1:-300}
each=${2:-}
work=$(mktemp -d)
disk=/dev/etherd/e9.9
stat='/sys/block/etherd!e9.9/stat'
reader=

clean_up() {
    # Another request ends the hang, and with it the reader.
    [ -z "$reader" ] || kill "$reader" 2>/dev/null || :
    [ ! -b $disk ] || timeout 20 dd if=$disk of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null || :
    tc qdisc del dev aoe0 clsact 2>/dev/null || :
    ip link del slow0 2>/dev/null || :
    ip link del slow1 2>/dev/null || :
    # The module holds the device, which would wait for it; the reader holds the module until its request has ended.
    for _ in $(seq 10); do
        modprobe -r aoe 2>/dev/null && break
        sleep 1
    done
    [ -d /sys/module/aoe ] || ip link del aoe0 2>/dev/null || :
    [ ! -s "$work/pid" ] || kill "$(cat "$work/pid")" 2>/dev/null || :
    ip netns del aoe-target 2>/dev/null || :
    rm -rf "$work"
}
trap clean_up EXIT

reads() { awk '{print $1}' "$stat"; }

ip netns add aoe-target
ip link add aoe0 type veth peer name aoe1 netns aoe-target
ip link set aoe0 up
ip -n aoe-target link set aoe1 up
truncate -s 64M "$work/file"
ip netns exec aoe-target sh -c 'echo $$ >"$0"; exec vblade -b 64 9 9 aoe1 "$1"' "$work/pid" "$work/file" >/dev/null 2>&1 &
modprobe aoe
echo "kernel $(uname -r), aoe version $(cat /sys/module/aoe/version)"
for second in $(seq 60); do
    if [ -c /dev/etherd/discover ]; then
        echo aoe0 >/dev/etherd/interfaces
        echo 1 >/dev/etherd/discover
    fi
    [ -b $disk ] && [ -e "$stat" ] && break
    sleep 1
done
[ -b $disk ] || { echo "no disk after $second s" >&2; exit 2; }

sh -c 'while dd if="$0" of=/dev/null bs=64k iflag=direct 2>/dev/null; do :; done' $disk &
reader=$!
sleep 2
before=$(reads)

echo "keeping at most $frames of the frames that aoe sends, for 4 s"
ip link add slow0 type dummy
tc qdisc add dev slow0 root netem delay 200s limit "$frames"
ip link set slow0 up
tc qdisc add dev aoe0 clsact
more=
if [ -n "$each" ]; then
    ip link add slow1 type dummy
    tc qdisc add dev slow1 root netem delay "${each}ms" limit 1000
    ip link set slow1 up
    more="action mirred egress mirror dev slow1"
fi
# shellcheck disable=SC2086 # several words on purpose
tc filter add dev aoe0 egress matchall action mirred egress mirror dev slow0 $more
sleep 4
during=$(reads)
tc qdisc del dev aoe0 clsact
ip link del slow0
echo "all is freed"

sleep 2
after=$(reads)
sleep 10
last=$(reads)
echo "requests that ended: $before before, $((during - before)) while the frames were kept, $((after - during)) in"
echo "the 2 s after that, $((last - after)) in the next 10 s"
cat "/sys/kernel/debug/aoe/e9.9" 2>/dev/null || :
if [ "$last" -eq "$after" ]; then
    echo "HANG: no request ended in the last 10 s, though nobody keeps a frame any more"
    exit 1
fi
echo "no hang"
