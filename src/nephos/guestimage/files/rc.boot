#!/bin/busybox.static sh
# Brings the guest up: network, metadata, SSH, then everything that may come later. Order is chosen for the time to
# log-in: what does not help a log-in comes after the SSH server.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
. /etc/guest/functions

mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=1777 shm /dev/shm
read -r name </etc/hostname
hostname "$name"

load_drivers
ip link set lo up
for nic in /sys/class/net/eth*; do
    [ -e $nic ] && start_dhcp ${nic##*/}
done
grow_root
find_config_drive || wait_for_network
[ -n "$source" ] || fetch_metadata
apply_metadata
start_ssh

ready_line
(late_start) </dev/console >/dev/console 2>&1 &
