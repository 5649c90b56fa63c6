#!/bin/sh
# The machine's first process: what a system's would mount and configure, and no more.
export PATH=/usr/sbin:/usr/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
modprobe -a virtio_net virtio_rng
hostname machine
ip link set lo up
ip link set eth0 up
ip address add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2

mkdir /run/payload
tar -x -f /dev/vdb -C /run/payload && sh /run/payload/start
echo "machine: ended with $?"
poweroff -f
