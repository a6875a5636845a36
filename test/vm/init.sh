#!/bin/busybox sh
# The first process of the machine: it runs the tests, and switches off. Results
# go to the first serial line; the second is the kernel's.
export PATH=/bin HOME=/tmp IPMASQ_PROGRAM=/bin/ipmasq CI=true
. /environment
mount() { /bin/busybox mount -n "$@"; }
mount -t devtmpfs dev /dev
/bin/busybox mkdir -p /dev/pts /proc /sys /run/lock /tmp
mount -t devpts -o ptmxmode=666 pts /dev/pts
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=755 run /run
/bin/busybox ln -s /proc/self/fd/0 /dev/stdin
# The kernel itself loads what it is asked for, these aside: a device is there
# only after its module, the tests look at the sysctls that come with some, and
# two of them that ask at once do not wait for each other. Not every machine has
# all of them.
/bin/busybox mknod /dev/ppp c 108 0
for module in veth bridge br_netfilter nf_tables nf_conntrack; do /sbin/modprobe -q $module; done
# Tests are in namespaces of their own. What is the machine's alone they do here.
: >/machine-netns
mount --bind /proc/self/ns/net /machine-netns
echo 1 >/proc/sys/net/netfilter/nf_log_all_netns
exec </dev/null >/dev/ttyS0 2>&1
/bin/busybox stty raw -F /dev/ttyS0
echo "booted $(/bin/busybox uname -r)"
# An emulated processor is slow, and the tests wait for some seconds at most.
/bin/tests -test.v=test2json -test.parallel=2 -test.run="$RUN" -test.skip="$SKIP"
echo "exit $?"
/bin/busybox poweroff -f
