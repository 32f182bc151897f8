#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Counts the polls of a virtio-net NIC that receives while memory is short for two seconds, and shows what they cost:
# time in softirq, and how late a task wakes up that is bound to the CPU that polls.
#
#   reproduce.sh RECEIVER SENDER
#
# RECEIVER and SENDER are two virtio-net NICs of this guest that are on one bridge, or on one hub of QEMU. Take a guest
# with 1 GiB of memory, two CPUs and some swap, of which nothing is needed afterwards. Needs root, iproute2, python3, and
# the kernel's own pktgen and tracepoints.
set -eu

receiver=$1
sender=$2
tracing=/sys/kernel/tracing
work=$(mktemp -d)
min_free=$(cat /proc/sys/vm/min_free_kbytes)
ratio=$(cat /proc/sys/vm/lowmem_reserve_ratio)

clean_up() {
    echo "$min_free" >/proc/sys/vm/min_free_kbytes
    echo "$ratio" >/proc/sys/vm/lowmem_reserve_ratio
    umount "$work" 2>/dev/null || :
    for job in $(jobs -p); do kill -KILL "$job" 2>/dev/null || :; done
    ip netns del sender 2>/dev/null || :
    echo '!hist:keys=dev_name,work' >$tracing/events/napi/napi_poll/trigger 2>/dev/null || :
    rmdir "$work" 2>/dev/null || :
}
trap clean_up EXIT

driver=$(cat /sys/module/virtio_net/version 2>/dev/null || echo "of the kernel")
echo "kernel $(uname -r), virtio_net, version $driver"
mountpoint -q $tracing || mount -t tracefs none $tracing
ip addr add 192.0.2.1/24 dev "$receiver"
ip link set "$receiver" up

# Sockets that nobody reads keep what arrives: else the driver uses its pages again, and asks for no memory.
unread() {
    exec python3 -c 'import socket, sys, time
sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for port in range(24)]
for number, each in enumerate(sockets):
    each.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)  # SO_RCVBUFFORCE
    each.bind(("192.0.2.1", 9000 + 2 * number + int(sys.argv[1])))
time.sleep(600)' "$1"
}
unread 0 &
unread 1 &
odd=$!

# A task for each CPU, whose memory is all there: when it is told to, it sleeps for 1 ms again and again for 2 s, and says
# how late it woke up.
late() {
    exec python3 -c 'import ctypes, os, signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
os.sched_setaffinity(0, {int(sys.argv[1])})
ctypes.CDLL(None).mlockall(3)
signal.sigwait({signal.SIGUSR1})
late, end = [], time.monotonic() + 2
while (now := time.monotonic()) < end:
    time.sleep(0.001)
    late.append(time.monotonic() - now - 0.001)
late.sort()
print(f"CPU {sys.argv[1]}: {len(late)} sleeps of 1 ms, late by {late[len(late) // 2] * 1e3:.1f} ms (median), "
      f"{late[-1] * 1e3:.1f} ms (longest)", flush=True)' "$1"
}
sleepers=
for cpu in $(seq 0 $(($(nproc) - 1))); do
    late "$cpu" &
    sleepers="$sleepers $!"
done

# 4,000 packets a second, from a network namespace, so that they leave by the NIC.
ip netns add sender
ip link set "$sender" netns sender
ip -n sender link set "$sender" up
modprobe pktgen
mac=$(cat "/sys/class/net/$receiver/address")
ip netns exec sender sh -eu -c '
    echo "add_device $1" >/proc/net/pktgen/kpktgend_0
    for line in "count 0" "pkt_size 1486" "ratep 4000" "dst_mac $2" "dst 192.0.2.1" "src_min 192.0.2.2" \
        "src_max 192.0.2.2" "udp_dst_min 9000" "udp_dst_max 9047" "flag UDPDST_RND"; do
        echo "$line" >"/proc/net/pktgen/$1"
    done
    exec timeout 300 sh -c "echo start >/proc/net/pktgen/pgctrl"
' sh "$sender" "$mac" &

# Memory is filled but for some 110 MiB, and then kept back: an atomic request may go down to 3/8 of the watermark.
mount -t tmpfs -o size=100% none "$work"
spare() { awk '/^MemFree/ {print int($2 / 1024)}' /proc/meminfo; }
echo 1 >/proc/sys/vm/drop_caches
number=0
while [ "$(spare)" -gt 115 ]; do
    number=$((number + 1))
    dd if=/dev/zero "of=$work/$number" bs=1M count=4 2>/dev/null
done
sleep 2
# What these have kept goes back to the slabs, so that a packet does not lack an skb, but only the ring its pages.
kill "$odd"
echo "1 ${ratio#*[[:space:]]}" >/proc/sys/vm/lowmem_reserve_ratio
softirq() { awk '/^cpu[0-9]/ {print $1, $8 * 10}' /proc/stat; }
received() { cat "/sys/class/net/$receiver/statistics/rx_packets"; }
before=$(received)
began=$(softirq)
echo 'hist:keys=dev_name,work' >$tracing/events/napi/napi_poll/trigger
echo 480000 >/proc/sys/vm/min_free_kbytes
# shellcheck disable=SC2086 # several words on purpose
kill -USR1 $sleepers
# shellcheck disable=SC2086 # several words on purpose
wait $sleepers
echo "$min_free" >/proc/sys/vm/min_free_kbytes
after=$(received)
ended=$(softirq)
echo "time in softirq by CPU [ms], before and after:" $began / $ended
echo "polls in 2 s of short memory, by the number of packets that they claimed; $((after - before)) packets arrived"
grep "$receiver" $tracing/events/napi/napi_poll/hist || echo "none"
