#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Shows that xen-netback calls a guest ready that is paused: in a dom0, with a guest of which nothing is needed.
#
#   reproduce.sh DOMAIN ADDRESS
#
# DOMAIN is the guest's name, ADDRESS one of its addresses, which dom0 reaches over a bridge. Needs root, xl, ping,
# iproute2 and Debian's default timeouts of netback (60 s and 10 s). The exit status is 1 if the paused guest was called
# ready, else 0.
set -eu

domain=$1
address=$2
said() { dmesg | grep 'Guest Rx' || :; }
clean_up() { xl unpause "$domain"; }

version=$(cat /sys/module/xen_netback/version 2>/dev/null || echo "of the kernel")
echo "kernel $(uname -r), xen_netback, version $version"
ping -c 1 -W 5 "$address" >/dev/null
# An entry that is learned is lost while the guest does not answer, and with it the packets.
ip neigh show to "$address" | while read -r _ _ device _ mac _; do
    ip neigh replace "$address" lladdr "$mac" dev "$device" nud permanent
done
before=$(said | wc -l)
xl pause "$domain"
trap clean_up EXIT
# 256 of these use up the guest's ring, and the others wait.
ping -i 0.1 -w 110 "$address" >/dev/null || :
log=$(said | tail -n "+$((before + 1))")
echo "netback said of the guest, which was paused for 110 s:"
echo "$log"
case $log in
*ready*) echo "FLAP: a paused guest was called ready" && exit 1 ;;
*stalled*) echo "no flap" ;;
*) echo "the guest was not called stalled" >&2 && exit 2 ;;
esac
