#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Counts the polls of a virtio-net NIC that receives while memory is short for two seconds, and shows what they cost:
# time in softirq, and how late a task wakes up that is bound to the CPU that polls.
#
#   reproduce.sh RECEIVER
#
# RECEIVER is the NIC. Let another machine, or the host, send 4,000 packets of 1,500 bytes a second to 192.0.2.1, UDP
# ports 9000 to 9047, and to the NIC's address, since nobody may answer ARP. (A sender in the same guest does not do:
# the kernel's pktgen sends nothing while memory is short.) Take a guest with 1 GiB of memory and two CPUs, of which
# nothing is needed afterwards. Needs root, iproute2, python3 and the kernel's tracepoints. The exit status is 1 if the
# driver spun: more than 5,000 polls claimed their whole budget.
set -eu

receiver=$1
tracing=/sys/kernel/tracing
work=$(mktemp -d)
min_free=$(cat /proc/sys/vm/min_free_kbytes)
ratio=$(cat /proc/sys/vm/lowmem_reserve_ratio)

clean_up() {
    echo "$min_free" >/proc/sys/vm/min_free_kbytes
    echo "$ratio" >/proc/sys/vm/lowmem_reserve_ratio
    umount "$work" 2>/dev/null || :
    ip addr del 192.0.2.1/24 dev "$receiver" 2>/dev/null || :
    echo "!hist:keys=work if dev_name == \"$receiver\"" >$tracing/events/napi/napi_poll/trigger 2>/dev/null || :
    rmdir "$work" 2>/dev/null || :
}
trap clean_up EXIT

driver=$(cat /sys/module/virtio_net/version 2>/dev/null || echo "of the kernel")
echo "kernel $(uname -r), virtio_net, version $driver"
mountpoint -q $tracing || mount -t tracefs none $tracing
ip addr add 192.0.2.1/24 dev "$receiver"
ip link set "$receiver" up
mount -t tmpfs -o size=100% none "$work"

python3 - "$receiver" "$work/fill" "$tracing/events/napi/napi_poll" <<'END'
import ctypes, os, re, signal, socket, sys, time

receiver, fill, event = sys.argv[1:]
SECONDS = 2
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})


def write(path, text):
    # Not truncated: that would remove what a trigger has counted.
    with open(path, "a") as file:
        file.write(text)


def free_mib():
    with open("/proc/meminfo") as file:
        return int(re.search(r"MemFree: +(\d+)", file.read())[1]) >> 10


def sleeper(cpu):
    """In a process of its own, bound to a CPU: sleep for 1 ms again and again, and say how late it woke up."""
    os.sched_setaffinity(0, {cpu})
    # Nothing here may wait for memory.
    ctypes.CDLL(None).mlockall(3)
    signal.sigwait({signal.SIGUSR1})
    late, end = [], time.monotonic() + SECONDS
    while (now := time.monotonic()) < end:
        time.sleep(0.001)
        late.append((time.monotonic() - now - 0.001) * 1000)
    late.sort()
    print(
        f"CPU {cpu}: {len(late)} sleeps of 1 ms, late by {late[len(late) // 2]:.1f} ms (median), "
        f"{late[len(late) * 99 // 100]:.1f} ms (99 %), {late[-1]:.1f} ms (longest)",
        flush=True,
    )
    os._exit(0)


def sleepers():
    pids = []
    for cpu in range(os.cpu_count()):
        pids.append(os.fork())
        if not pids[-1]:
            sleeper(cpu)
    time.sleep(1)
    return pids


def number(file):
    return int(os.pread(file, 32, 0))


def softirq(file):
    """Return the time in softirq of each CPU so far [ms]."""
    lines = os.pread(file, 1 << 14, 0).decode().splitlines()
    return [int(line.split()[7]) * 10 for line in lines if re.match(r"cpu\d", line)]


before = sleepers()
print("without a shortage:", flush=True)
for pid in before:
    os.kill(pid, signal.SIGUSR1)
for pid in before:
    os.waitpid(pid, 0)

with open(fill, "wb") as file:
    # An atomic request may go down to 3/8 of the watermark: all memory is filled but for some 110 MiB.
    write("/proc/sys/vm/drop_caches", "1")
    filled = 0
    while (spare := free_mib()) > 112:
        step = min(spare - 110, 32) << 20
        os.posix_fallocate(file.fileno(), filled, step)
        filled += step

# Sockets that nobody reads keep what arrives: else the driver uses its pages again, and asks for no memory. Every
# second one is closed: what it kept goes back to the slabs, so that a packet does not lack an skb, but only the ring
# its pages.
pids = sleepers()
sockets = []
for port in range(9000, 9048):
    sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sockets[-1].setsockopt(socket.SOL_SOCKET, 33, 4 << 20)  # SO_RCVBUFFORCE
    sockets[-1].bind(("192.0.2.1", port))
packets = os.open(f"/sys/class/net/{receiver}/statistics/rx_packets", os.O_RDONLY)
there = number(packets)
time.sleep(2)
rate = (number(packets) - there) // 2
if rate < 100:
    sys.exit("few packets arrive: who sends?")
for each in sockets[1::2]:
    each.close()
stat = os.open("/proc/stat", os.O_RDONLY)
min_free = os.open("/proc/sys/vm/min_free_kbytes", os.O_RDWR)
usual = os.read(min_free, 32)
ratio = open("/proc/sys/vm/lowmem_reserve_ratio").read().split()
write("/proc/sys/vm/lowmem_reserve_ratio", " ".join(["1", *ratio[1:]]))
write(f"{event}/trigger", f'hist:keys=work if dev_name == "{receiver}"')
ctypes.CDLL(None).mlockall(3)
softirq(stat)
print(f"memory is short, with {free_mib()} MiB free and {rate} packets a second:", flush=True)

began, first, there = time.monotonic(), softirq(stat), number(packets)
os.pwrite(min_free, b"480000", 0)
for pid in pids:
    os.kill(pid, signal.SIGUSR1)
time.sleep(SECONDS)
last, arrived = softirq(stat), number(packets)
os.pwrite(min_free, usual, 0)
ended = time.monotonic()
while number(packets) == arrived and time.monotonic() < ended + 30:
    time.sleep(0.001)
again = time.monotonic() - ended
write(f"{event}/trigger", f'hist:keys=work:pause if dev_name == "{receiver}"')
for pid in pids:
    os.waitpid(pid, 0)
each = ", ".join(f"{b - a} ms of CPU {cpu}" for cpu, (a, b) in enumerate(zip(first, last)))
print(f"in {ended - began:.2f} s {arrived - there} packets arrived; in softirq were {each}")
print(f"the next packet arrived {again * 1000:.0f} ms after memory was back")
with open(f"{event}/hist") as file:
    polls = re.findall(r"work: +(\d+) +\} hitcount: +(\d+)", file.read())
by_work = {int(work): int(count) for work, count in polls}
none, whole = by_work.get(0, 0), by_work.get(64, 0)
print(f"{sum(by_work.values())} polls, {none} of which claimed no packet, {whole} their budget of 64")
if whole > 5000:
    sys.exit("SPIN")
print("no spin")
END
