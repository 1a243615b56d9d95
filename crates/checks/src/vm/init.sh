#!/bin/busybox sh
# Process 1 of the virtual machine's first file system: makes a root of the host's and goes there. By
# `switch_root`, because inside a chroot the kernel refuses user namespaces (user_namespaces(7)).
export PATH=/bin
busybox mkdir -p /proc /sys /dev /lower /upper /new
busybox mount -t proc proc /proc
busybox --install -s /bin
case "$(cat /proc/cmdline)" in
*tare.probe*)
  echo 'tare-vm: up'
  poweroff -f
  ;;
esac
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in /modules/*.ko; do insmod "$module"; done
mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,ro,msize=262144 host /lower
mount -t tmpfs tmpfs /upper
mkdir /upper/u /upper/w
mount -t overlay -o lowerdir=/lower,upperdir=/upper/u,workdir=/upper/w overlay /new
cp -r /tare-vm /new/tare-vm
cp /bin/busybox /new/tare-vm/busybox
# The programs under test, before the folders that hold them on the host are hidden. The ordinary user may not see those.
. /tare-vm/names
mkdir /new/tare-vm/bin
cp "/lower$CONTAINERS" /new/tare-vm/bin/containers
cp "/lower$MEASURE" /new/tare-vm/bin/measure
cp "/lower$KEEPER" /new/tare-vm/bin/tare-keeper
cp "/lower$PROFILER" /new/tare-vm/bin/tare-profiler
cp "/lower$PROGRAM" /new/tare-vm/bin/program
chmod -R a+rX /new/tare-vm
# The host's own is neither to be seen nor, by systemd, to be emptied.
mount -t tmpfs -o mode=1777 tmpfs /new/tmp
if [ -e /tare-vm/units ]; then
  cp /tare-vm/units/* /new/etc/systemd/system/
  exec switch_root /new /lib/systemd/systemd --unit=tare.target --show-status=false
fi
mount -t proc proc /new/proc
mount -t sysfs sysfs /new/sys
mount -t devtmpfs dev /new/dev
mkdir -p /new/dev/pts /new/dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts /new/dev/pts
for place in /dev/shm /run; do mount -t tmpfs -o mode=1777 tmpfs "/new$place"; done
mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
ip link set lo up
exec switch_root /new /bin/sh /tare-vm/script
