#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Turns a Debian system that has the packages into a testbed machine. Runs as root: in the image builder's chroot, and
# from Vagrant in a box of somebody else.
#
#   install.sh ROOTFS [WHEELS] -- REQUIREMENT...
#
# ROOTFS is vm/image/box/rootfs; WHEELS a directory of wheels, for a machine that has no network. The environment says
# what the drivers under test need (vm/drivers/*/testbed.toml):
#
#   SOURCES      files and directories of the kernel's source
#   NIC_MODULES  modules that take NICs
#   MANAGEMENT   the module of the management NIC
set -eu

rootfs=$1
shift
pip_options=
if [ "$1" != -- ]; then
    pip_options="--no-index --find-links $1"
    shift
fi
shift

id vagrant >/dev/null 2>&1 || useradd --create-home --shell /bin/bash vagrant
# Owners and modes are those of a checkout, which may be anybody's.
cp -r --no-preserve=all "$rootfs/." /
chmod 755 /usr/local/bin/toolkit /usr/local/bin/variant /usr/local/sbin/rx-stall-keys \
    /usr/local/sbin/rx-stall-init /usr/local/sbin/rx-stall-nic
chmod 440 /etc/sudoers.d/rx-stall

# The management NIC takes eth0; the NICs under test are eth1, eth2, ... in the order of their PCI addresses.
# Not softdep: with that, modprobe -r of a driver under test takes the management NIC along.
load="exec /sbin/modprobe --ignore-install"
for module in $NIC_MODULES; do
    echo "install $module /sbin/modprobe --all --quiet $MANAGEMENT; $load $module \$CMDLINE_OPTS"
done >/etc/modprobe.d/rx-stall.conf

# Its own disk, found by serial number and formatted at the first boot.
grep -q virtio-swap /etc/fstab 2>/dev/null ||
    echo '/dev/disk/by-id/virtio-swap none swap nofail,x-systemd.makefs,x-systemd.device-timeout=20s 0 0' >>/etc/fstab

if [ ! -x /opt/toolkit/venv/bin/python ]; then
    python3 -m venv --system-site-packages /opt/toolkit/venv
fi
# shellcheck disable=SC2086 # two words on purpose
/opt/toolkit/venv/bin/pip install --quiet --disable-pip-version-check --root-user-action=ignore $pip_options "$@"
mkdir -p /opt/toolkit/src

# Of the kernel's source only the drivers under test are kept, unpacked.
mkdir -p /usr/src/rx-stall
for archive in /usr/src/linux-source-*.tar.xz; do
    [ -e "$archive" ] || continue
    # Not every kernel has every driver, which tar would call a failure: what is missing is said when it is asked for.
    # Of no path at all, tar would take everything.
    [ -z "$SOURCES" ] || for source in $SOURCES; do
        echo "*/$source"
    done |
        tar --extract --xz --file "$archive" --directory /usr/src/rx-stall --strip-components=1 --no-same-owner \
            --wildcards --files-from=- || true
    rm "$archive"
done

systemctl enable --quiet systemd-networkd.service ssh.service rx-stall-keys.service
# Nothing may wake up in the middle of a measurement, and nothing is started that a testbed does not use.
systemctl mask --quiet apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    man-db.timer systemd-tmpfiles-clean.timer e2scrub_reap.service systemd-networkd-wait-online.service \
    systemd-timesyncd.service systemd-logind.service getty@tty1.service serial-getty@ttyS0.service \
    modprobe@drm.service modprobe@efi_pstore.service modprobe@fuse.service modprobe@loop.service \
    modprobe@dm_mod.service modprobe@configfs.service dev-hugepages.mount dev-mqueue.mount
systemctl set-default --quiet multi-user.target
