#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Keeps memory short for four seconds while a NIC of e100's receives. A guest of QEMU's (-device i82559c) panics.
#
#   reproduce.sh RECEIVER [SENDER]
#
# RECEIVER is the NIC. SENDER is a second NIC on the same hub or bridge, which sends 4,000 frames a second; without one,
# let another machine send as many to RECEIVER's address. Take a guest with 1 GiB of memory, of which nothing is needed
# afterwards. Needs root and iproute2, and for a SENDER the kernel's own pktgen.
set -eu

receiver=$1
sender=${2:-}
work=$(mktemp -d)
min_free=$(cat /proc/sys/vm/min_free_kbytes)
ratio=$(cat /proc/sys/vm/lowmem_reserve_ratio)

clean_up() {
    echo "$min_free" >/proc/sys/vm/min_free_kbytes
    echo "$ratio" >/proc/sys/vm/lowmem_reserve_ratio
    umount "$work" 2>/dev/null || :
    for job in $(jobs -p); do kill -KILL "$job" 2>/dev/null || :; done
    ip netns del sender 2>/dev/null || :
    rmdir "$work" 2>/dev/null || :
}
trap clean_up EXIT

driver=$(basename "$(readlink -f "/sys/class/net/$receiver/device/driver")")
version=$(cat "/sys/module/$driver/version" 2>/dev/null || echo "of the kernel")
echo "kernel $(uname -r), $receiver: $driver, version $version"
ip link set "$receiver" up
mac=$(cat "/sys/class/net/$receiver/address")

if [ -n "$sender" ]; then
    # From a network namespace, so that they leave by the NIC.
    ip netns add sender
    ip link set "$sender" netns sender
    ip -n sender link set "$sender" up
    modprobe pktgen
    ip netns exec sender sh -eu -c '
        echo "add_device $1" >/proc/net/pktgen/kpktgend_0
        for line in "count 0" "pkt_size 1486" "ratep 4000" "dst_mac $2" "dst 192.0.2.1" "src_min 192.0.2.2" \
            "src_max 192.0.2.2"; do
            echo "$line" >"/proc/net/pktgen/$1"
        done
        exec timeout 120 sh -c "echo start >/proc/net/pktgen/pgctrl"
    ' sh "$sender" "$mac" &
fi

# Memory is filled but for some 110 MiB, and then kept back: an atomic request may go down to 3/8 of the watermark.
mount -t tmpfs -o size=100% none "$work"
spare() { awk '/^MemFree/ {print int($2 / 1024)}' /proc/meminfo; }
echo 1 >/proc/sys/vm/drop_caches
number=0
while [ "$(spare)" -gt 115 ]; do
    number=$((number + 1))
    dd if=/dev/zero "of=$work/$number" bs=1M count=4 2>/dev/null
done
received() { cat "/sys/class/net/$receiver/statistics/rx_packets"; }
before=$(received)
sleep 2
usual=$(($(received) - before))
echo "$usual frames were received in 2 s; now memory is short for 4 s"
[ "$usual" -gt 200 ] || { echo "that is too few: who sends?" >&2; exit 2; }
echo "1 ${ratio#*[[:space:]]}" >/proc/sys/vm/lowmem_reserve_ratio
before=$(received)
echo 480000 >/proc/sys/vm/min_free_kbytes
sleep 4
echo "$min_free" >/proc/sys/vm/min_free_kbytes
short=$(($(received) - before))
sleep 3
before=$(received)
sleep 2
echo "no panic: $short frames were received while memory was short, $(($(received) - before)) in 2 s after that"
