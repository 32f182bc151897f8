#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Makes the ramdisk of the machines that `python -m vm` starts: busybox, vm/image/box/ramdisk/init, and the modules that
# reach the root disk. Runs as root in the image builder's chroot. A Vagrant box boots Debian's own.
#
#   ramdisk.sh TARGET
set -eu

target=$1
box=$(dirname "$0")
kernel=$(ls /lib/modules)
tree=$(mktemp -d)

mkdir "$tree/bin" "$tree/dev" "$tree/modules" "$tree/root"
cp /bin/busybox "$tree/bin"
for applet in sh mount insmod usleep switch_root; do
    ln -s busybox "$tree/bin/$applet"
done
install -m 755 "$box/ramdisk/init" "$tree/init"

# Each once, in an order in which none needs a later one.
number=100
for module in virtio_pci virtio_blk crc32c_generic ext4; do
    modprobe --set-version "$kernel" --show-depends "$module" 2>/dev/null || true
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
    name=$number-$(basename "$file")
    number=$((number + 1))
    case $file in
    *.xz) xz --decompress --stdout "$file" >"$tree/modules/${name%.xz}" ;;
    *.zst) zstd --decompress --quiet --stdout "$file" >"$tree/modules/${name%.zst}" ;;
    *) cp "$file" "$tree/modules/$name" ;;
    esac
done

(cd "$tree" && find . | busybox cpio --quiet -o -H newc) >"$target"
rm -r "$tree"
