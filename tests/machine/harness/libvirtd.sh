#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# A libvirtd that has nothing to do with the machine's own: run with namespaces of its own for mounts, network and
# processes, so that its networks, its machines and its files go when it does.
#
#   unshare --mount --propagation unchanged --net --pid --fork --mount-proc libvirtd.sh DIRECTORY
#
# DIRECTORY takes its state; DIRECTORY/log is libvirtd's log.
set -eu
work=$1

# Not by unshare, which insists: the root of a chroot is no mount point, and need not be one.
mount --make-rprivate / 2>/dev/null || true
mkdir -p "$work/probe"
mount -t tmpfs tmpfs "$work/probe"
if grep -q " $work/probe .* shared:" /proc/self/mountinfo; then
    umount "$work/probe"
    echo "What is mounted here would show outside, so nothing is." >&2
    exit 1
fi
umount "$work/probe"

mkdir -p "$work/lib" "$work/cache" "$work/logs" "$work/etc" "$work/tmp"
cp -a /etc/libvirt/. "$work/etc"
rm -rf "$work/etc/qemu/autostart" "$work/etc/qemu/networks" "$work/etc/qemu"/*.xml
echo 'auth_unix_rw = "none"' >"$work/etc/libvirtd.conf"
cat >"$work/etc/qemu.conf" <<'EOF'
stdio_handler = "file"
security_driver = "none"
namespaces = []
cgroup_controllers = []
EOF
mkdir -p "$work/lib/images" "$work/lib/qemu"
chmod 711 "$work/lib" "$work/lib/images"
chown libvirt-qemu: "$work/lib/qemu"

# The old /sys shows the network outside; the new one has no cgroups, so those outside are left alone.
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mount --bind "$work/lib" /var/lib/libvirt
mkdir -p /var/cache/libvirt /var/log/libvirt "/tmp/rx-stall-$(id -u)"
mount --bind "$work/cache" /var/cache/libvirt
mount --bind "$work/logs" /var/log/libvirt
mount --bind "$work/etc" /etc/libvirt
chmod 711 "$work/tmp"
mount --bind "$work/tmp" "/tmp/rx-stall-$(id -u)"
ip link set lo up
# Not exec: as the first process of its namespace this shell takes up the orphans, and libvirtd would not.
libvirtd >"$work/log" 2>&1 &
wait $!
