# SPDX-License-Identifier: MIT
"""The shell scripts that make a lab and its devices; `isolation` says what they are for.

Before each stand assignments:

    tools               PATH for the scripts themselves: this machine's system folders first
    top, layer          in the run's folder: where devices have their files; what lies above this machine's
    own_users           not empty in a user namespace: "root" is a normal user of the host
    base                the root folder that is shown, "" for the host's own
    network             lines for `ip -batch`
    state, spaces       of a lab: the run's folder; the devices' folders in `top`
    name, space         of a device, and its folder in `top`
    python              a program of this machine
    hosts               for its /etc
    processes           how many it may have; "" where that can't be limited
    power               a FIFO of this machine that it is told reboots by
    directory, init     where its command runs; the text of INIT
"""

# Process 1 of the lab.
LAB = r"""
set -e
PATH=$tools
# -n: do not note the mount in the host's /run/mount.
mount() { command mount -n "$@"; }
mount -t proc lavabox /proc
ip -batch - <<END
$network
END
# What leads out of the lab is refused at once, each time: who asks a name server there need not wait.
for setting in ipv4/ip_forward=1 ipv6/conf/all/forwarding=1 ipv4/icmp_ratemask=0 ipv6/icmp/ratemask= ipv6/icmp/ratelimit=0; do
    { echo "${setting#*=}" >"/proc/sys/net/${setting%%=*}"; } 2>/dev/null || :
done
for family in -4 -6; do ip $family route add unreachable default metric 9999 2>/dev/null || :; done
# The kernel answers "no route" at most once a second, and UDP sockets do not hear of it; "port unreachable" they always do.
# So for UDP alone each address is one of the lab's own, where no port is open. IPv4 wants such a route in the table "local",
# so the old content of that moves to table 1, which all else looks up.
ip -6 route add local default dev lo table 1 2>/dev/null && ip -6 rule add iif lab ipproto udp lookup 1 2>/dev/null || :
if ip rule add pref 1 iif lab ipproto udp lookup local 2>/dev/null; then
    ip route show table local | sed 's/^/route add table 1 /' | ip -batch -
    ip rule add pref 2 lookup 1
    ip rule del pref 0
    ip route add local default dev lo table local
fi
# A file system for each device here, where it outlasts the device's mount namespace: a reboot ends that.
for space in $spaces; do
    mkdir -p "$top/$space"
    mount -t tmpfs -o mode=0755 lavabox "$top/$space"
done
if [ "$own_users" ]; then
    # All the host's files belong to nobody here, and nobody may write to them. So what tests like to
    # change lies in a layer above, as folders and copies that belong to "root".
    mkdir "$layer"
    mount -t tmpfs -o mode=0755 lavabox "$layer"
    cd "$base/"
    cp -RPp etc "$layer" 2>/dev/null || :
    find . -xdev -mindepth 1 -maxdepth 1 ! -name proc ! -name sys ! -name dev ! -name tmp ! -name run -print0 |
        xargs -0 -I '{}' find '{}' -xdev -maxdepth 2 -type d -readable -executable -print0 2>/dev/null |
        (cd "$layer" && xargs -0 -r mkdir -p)
    cd /
fi
echo ready
read -r line || :
# Only there if lavabox was killed.
[ -z "$own_users" ] || umount -n "$layer"
for space in $spaces; do umount -n "$top/$space" || :; done
rm -rf "$state"
"""

# Process 1 of a device, first in the lab's mount namespace. $1: its console; then the command. It runs again
# after a reboot, over what the device has written.
DEVICE = r"""
set -e
umask 022
device_path=$PATH
PATH=$tools
mount() { command mount -n "$@"; }
# A name that no other interface has: this shell's process id in the lab, whose /proc this is.
read -r port _ </proc/self/stat
port=port$port
ip -batch - <<END
$(echo "$network" | sed "s/@PORT@/$port/")
END
nsenter --net=/proc/1/ns/net ip link set "$port" master lab up
# The program takes letters, digits, '-' and '.'; the kernel takes all, but 64 bytes at most.
hostname "$name" 2>/dev/null ||
    "$python" -I -S -c 'import os, socket, sys; socket.sethostname(os.fsencode(sys.argv[1])[:64])' "$name"
files=$top/$space
root=$files/root
first_boot=yes
[ ! -d "$root" ] || first_boot=
mkdir -p "$root" "$files/upper" "$files/work"
mount --bind "$root" "$root"
count=0

# path in the root, source, mode, owner
overlay() {
    count=$((count + 1))
    upper=$files/upper/$count work=$files/work/$count
    # It may have been removed since this script was made.
    [ -d "$2" ] || return 0
    mkdir -p "$root/$1" "$upper" "$work"
    if [ "$first_boot" ]; then
        [ "$3" = 755 ] || chmod "$3" "$upper"
        [ "$4" = 0:0 ] || [ "$own_users" ] || chown "$4" "$upper"
    fi
    # From within, so that no character of its name can mean anything. What has gone since it was found stays empty.
    cd "$2" 2>/dev/null || { [ -e "$2" ] || return 0; cd "$2"; }
    lower=.
    if [ "$own_users" ] && [ -d "$layer/$1" ] && [ "$2" = "$base/$1" ]; then lower=$layer/$1:.; fi
    layers=lowerdir=$lower,upperdir=$upper,workdir=$work
    # In a user namespace some kernels can't do without userxattr. Over some file systems none can be made.
    mount -t overlay -o "$layers" lavabox "$root/$1" 2>/dev/null ||
        mount -t overlay -o "$layers,userxattr" lavabox "$root/$1" 2>/dev/null ||
        { mount --bind . "$root/$1" && mount -o remount,bind,ro "$root/$1"; }
    cd "$root"
}
folder() { mkdir -p -m "$3" "$1"; }
# Once: what the device has changed or removed stays so after a reboot.
link() { [ -z "$make" ] || [ -e "$1" ] || [ -L "$1" ] || ln -s "$2" "$1"; }
file() { [ -z "$make" ] || [ -e "$1" ] || cp "$2" "$1" 2>/dev/null || [ ! -e "$2" ] || cp "$2" "$1"; }

# name, mode, major and minor number: a device node of the device's own, or this machine's if it can't be made
node() {
    [ -e "/dev/$1" ] || return 0
    mknod -m "$2" "dev/$1" c "$3" "$4" 2>/dev/null || shown "/dev/$1" "dev/$1"
}
# file of this machine, where
shown() {
    : >"$2"
    mount --bind "$1" "$2"
}

cd "$root"
make=$first_boot
@PARTS@
mkdir -p dev proc run sys tmp etc
mount -t tmpfs -o mode=0755 lavabox dev
for name_and_numbers in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
    set -- $name_and_numbers "$@"
    node "$1" 666 "$2" "$3"
    shift 3
done
mkdir dev/net dev/pts dev/shm dev/mqueue
node net/tun 666 10 200
node fuse 666 10 229
node kvm 660 10 232
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
ln -s pts/ptmx dev/ptmx
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 lavabox dev/pts 2>/dev/null ||
    mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 lavabox dev/pts
mount -t tmpfs -o mode=1777 lavabox dev/shm
mount -t mqueue lavabox dev/mqueue 2>/dev/null || :
shown "$1" dev/console
shift
mount -t proc lavabox proc
[ -z "$processes" ] || echo "$processes" >proc/sys/kernel/pid_max
mount -t sysfs -o ro lavabox sys 2>/dev/null || { mount --rbind /sys sys; mount -o remount,bind,ro sys || :; }
mount -t tmpfs -o mode=0755 lavabox run
mkdir -m 1777 run/lock
mkdir run/lavabox
shown "$power" run/lavabox/power
mount -t tmpfs -o mode=1777 lavabox tmp
if [ -z "$own_users" ]; then
    # Here root may write, and it would count for the whole machine.
    mount --bind proc/sys/net proc/sys/net
    mount --rbind proc/sys proc/sys
    mount -o remount,bind,ro proc/sys
    [ ! -e proc/sysrq-trigger ] || mount --bind dev/null proc/sysrq-trigger
fi
make=yes
@VISIBLE@
if [ "$first_boot" ]; then
    rm -f etc/hosts etc/hostname etc/resolv.conf
    echo "$hosts" >etc/hosts
    echo "$name" >etc/hostname
    # Nobody answers there, which is told at once. Another host's refusals would be limited to one a second.
    echo "nameserver 127.0.0.1" >etc/resolv.conf
fi
# As an initial RAM file system does it: the old root is under the new one, out of reach.
cd "$root"
mount --move . /
set -- chroot . /bin/sh -c "$init" init "$device_path" "$directory" "$@"
# What would reach beyond the namespaces: clock, kernel modules and log, devices.
dropped=-sys_time,-sys_module,-sys_rawio,-syslog,-mknod,-wake_alarm,-audit_control,-mac_admin,-mac_override
[ "$own_users" ] || set -- setpriv --bounding-set="$dropped" "$@"
exec setsid "$@"
"""

# What becomes of it: in the device's root, leader of a session on its console. The kernel makes this process the
# parent of all orphans; a shell reaps them while it waits. $1: PATH; $2: the folder; then the command.
INIT = r"""
PATH=$1
cd "$2" || exit 1
shift 2
exec <>/dev/console >&0
# It has nothing to say of how its command ended.
exec 2>/dev/null
"$@" 2>&1
exit $?
"""
