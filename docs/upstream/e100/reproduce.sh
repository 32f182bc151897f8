#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Keeps memory short for four seconds while a NIC of e100's receives. A guest of QEMU's (-device i82559c) panics.
#
#   reproduce.sh RECEIVER
#
# RECEIVER is the NIC. Let another machine, or the host, send 4,000 frames of 1,500 bytes a second to its address. Take
# a guest with 1 GiB of memory, of which nothing is needed afterwards. Needs root, iproute2 and python3.
set -eu

receiver=$1
work=$(mktemp -d)
min_free=$(cat /proc/sys/vm/min_free_kbytes)
ratio=$(cat /proc/sys/vm/lowmem_reserve_ratio)

clean_up() {
    echo "$min_free" >/proc/sys/vm/min_free_kbytes
    echo "$ratio" >/proc/sys/vm/lowmem_reserve_ratio
    umount "$work" 2>/dev/null || :
    rmdir "$work" 2>/dev/null || :
}
trap clean_up EXIT

driver=$(basename "$(readlink -f "/sys/class/net/$receiver/device/driver")")
version=$(cat "/sys/module/$driver/version" 2>/dev/null || echo "of the kernel")
echo "kernel $(uname -r), $receiver: $driver, version $version"
ip link set "$receiver" up

mount -t tmpfs -o size=100% none "$work"
python3 - "/sys/class/net/$receiver/statistics/rx_packets" "$work/fill" <<'END'
import ctypes, os, re, sys, time

counter, fill = sys.argv[1:]


def received():
    return int(os.pread(packets, 32, 0))


def free_mib():
    with open("/proc/meminfo") as file:
        return int(re.search(r"MemFree: +(\d+)", file.read())[1]) >> 10


packets = os.open(counter, os.O_RDONLY)
with open("/proc/sys/vm/drop_caches", "w") as file:
    file.write("1")
# Memory is filled but for some 110 MiB, and then kept back: an atomic request may go down to 3/8 of the watermark.
with open(fill, "wb") as file:
    filled = 0
    while (spare := free_mib()) > 112:
        step = min(spare - 110, 32) << 20
        os.posix_fallocate(file.fileno(), filled, step)
        filled += step
first = received()
time.sleep(2)
usual = received() - first
print(f"{usual} frames were received in 2 s; now memory is short for 4 s", flush=True)
if usual < 200:
    sys.exit("that is too few: who sends?")
with open("/proc/sys/vm/lowmem_reserve_ratio", "r+") as file:
    others = file.read().split()[1:]
    file.seek(0)
    file.write(" ".join(["1", *others]))
min_free = os.open("/proc/sys/vm/min_free_kbytes", os.O_RDWR)
before = os.read(min_free, 32)
# From here on this process needs no memory.
ctypes.CDLL(None).mlockall(3)
began, first = time.monotonic(), received()
os.pwrite(min_free, b"480000", 0)
time.sleep(4)
last = received()
os.pwrite(min_free, before, 0)
ended = time.monotonic()
time.sleep(3)
again = received()
time.sleep(2)
print(f"no panic: {last - first} frames were received in {ended - began:.1f} s of short memory, ", end="")
print(f"{received() - again} in 2 s after that")
END
