#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Makes a Debian box a testbed machine, by the recipe of vm/image/box, and lets it run the checkout's code in /vagrant. Run by
# Vagrant as root; in our own box, which is a testbed machine already, little is left to do.
#
#   provision.sh CMDLINE [PACKAGE]...
#
# CMDLINE is what the machine adds to the kernel's command line; the packages come on top of vm/image/box/packages.txt.
# The environment has what install.sh wants to know.
set -eu

cmdline=$1
shift
vm=/vagrant/vm

missing=
for package in $(sed 's/#.*//' $vm/image/box/packages.txt) "$@"; do
    dpkg-query --show --showformat='${db:Status-Abbrev}\n' "$package" 2>/dev/null | grep -q '^ii' ||
        missing="$missing $package"
done

if [ -e /etc/rx-stall-testbed ]; then
    if [ -n "$missing" ]; then
        echo "This box lacks$missing: make it anew with \`python -m vm box MACHINE\`." >&2
        exit 1
    fi
else
    if [ -n "$missing" ]; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get update --quiet --quiet
        # shellcheck disable=SC2086 # many words on purpose
        apt-get install --quiet --quiet --yes --no-install-recommends $missing
    fi

    # systemd-networkd takes over at the reboot that follows: what the box has must not bring up the same interface.
    if [ -e /etc/network/interfaces ]; then
        rm -f /etc/network/interfaces.d/*
        printf 'auto lo\niface lo inet loopback\n' >/etc/network/interfaces
    fi

    if command -v update-grub >/dev/null; then
        mkdir -p /etc/default/grub.d
        echo "GRUB_CMDLINE_LINUX=\"\$GRUB_CMDLINE_LINUX console=ttyS0 net.ifnames=0 $cmdline\"" \
            >/etc/default/grub.d/rx-stall.cfg
        update-grub
    fi

    requirements=$(python3 -c '
import tomllib
project = tomllib.load(open("/vagrant/pyproject.toml", "rb"))["project"]
print(*project["dependencies"], *project["optional-dependencies"]["vm"])
')
    # The marker /etc/rx-stall-testbed is part of the recipe, which begins with it: take it back if the rest fails.
    # shellcheck disable=SC2086 # a word for each requirement
    sh $vm/image/box/install.sh $vm/image/box/rootfs -- $requirements || {
        rm -f /etc/rx-stall-testbed
        exit 1
    }
    (. /etc/os-release && echo "$VERSION_CODENAME") >/etc/rx-stall-release
fi

# The machine runs the checkout as it is synced: `vagrant rsync` brings a change in.
[ -L /opt/toolkit/src ] || rm -rf /opt/toolkit/src
ln -sfn /vagrant /opt/toolkit/src
