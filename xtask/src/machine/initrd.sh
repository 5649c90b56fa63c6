#!/bin/busybox sh
# Before the machine's first process: as much as it takes to mount its disk.
for module in /modules/*; do
    /bin/busybox insmod "$module"
done
/bin/busybox mount -t devtmpfs dev /dev
waited=0
until [ -b /dev/vda ] || [ "$waited" -gt 50 ]; do
    waited=$((waited + 1))
    /bin/busybox sleep 0.1
done
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox umount /dev
exec /bin/busybox switch_root /root /usr/sbin/machine-init
