# SPDX-License-Identifier: MIT
"""The shell scripts that make a lab and its devices; `isolation` says what they are for.

Before each stand assignments:

    state, top, layer   the run's folder, and in it a mount point each for devices and for the lab
    own_users           not empty in a user namespace: "root" is a normal user of the host
    base                the root folder that is shown, "" for the host's own
    path, network       where programs are; lines for `ip -batch`
    name, port          of a device, and of its end at the bridge
    python              a program of this machine
    hosts, resolver     for its /etc
    directory, init     where its command runs; the text of INIT
"""

# Process 1 of the lab.
LAB = r"""
set -e
PATH=$PATH:$path
# Without a word about it in the host's /run/mount.
mount() { command mount -n "$@"; }
mount -t proc lavabox /proc
ip -batch - <<END
$network
END
mkdir "$top"
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
rm -rf "$state"
"""

# Process 1 of a device, first in the lab's mount namespace. $1: its tty; then the command.
DEVICE = r"""
set -e
umask 022
old_path=$PATH
PATH=$PATH:$path
# Without a word about it in the host's /run/mount.
mount() { command mount -n "$@"; }
ip -batch - <<END
$network
END
nsenter --net=/proc/1/ns/net ip link set "$port" master lab up
# The program takes letters, digits, '-' and '.'; the kernel takes all, but 64 bytes at most.
hostname "$name" 2>/dev/null ||
    "$python" -I -S -c 'import os, socket, sys; socket.sethostname(os.fsencode(sys.argv[1])[:64])' "$name"
mount -t tmpfs -o mode=0755 lavabox "$top"
root=$top/root
mkdir "$root" "$top/upper" "$top/work"
mount -t tmpfs -o mode=0755 lavabox "$root"
count=0

# path in the root, source, mode, owner
overlay() {
    count=$((count + 1))
    upper=$top/upper/$count work=$top/work/$count
    mkdir -p "$root/$1" "$upper" "$work"
    [ "$3" = 755 ] || chmod "$3" "$upper"
    [ "$4" = 0:0 ] || [ "$own_users" ] || chown "$4" "$upper"
    # From within, so that no character of its name can mean anything.
    cd "$2"
    lower=.
    if [ "$own_users" ] && [ -d "$layer/$1" ] && [ "$2" = "$base/$1" ]; then lower=$layer/$1:.; fi
    layers=lowerdir=$lower,upperdir=$upper,workdir=$work
    # In a user namespace some kernels can't do without userxattr. Over some file systems none can be made.
    mount -t overlay -o "$layers" lavabox "$root/$1" 2>/dev/null ||
        mount -t overlay -o "$layers,userxattr" lavabox "$root/$1" 2>/dev/null ||
        { mount --bind . "$root/$1" && mount -o remount,bind,ro "$root/$1"; }
    cd "$root"
}
folder() { mkdir -m "$3" "$1"; }
link() { ln -s "$2" "$1"; }
file() { cp "$2" "$1"; }

cd "$root"
@PARTS@
mkdir -p dev proc run sys tmp etc
mount --rbind /dev dev
mount -t tmpfs -o mode=1777 lavabox dev/shm
mount -t proc lavabox proc
mount -t sysfs -o ro lavabox sys 2>/dev/null || mount --rbind /sys sys
mount -t tmpfs -o mode=0755 lavabox run
mkdir -m 1777 run/lock
mount -t tmpfs -o mode=1777 lavabox tmp
if [ -z "$own_users" ]; then
    # Here root may write, and it would count for the whole machine.
    mount --bind proc/sys/net proc/sys/net
    mount --rbind proc/sys proc/sys
    mount -o remount,bind,ro proc/sys
    [ ! -e proc/sysrq-trigger ] || mount --bind /dev/null proc/sysrq-trigger
fi
@VISIBLE@
rm -f etc/hosts etc/hostname etc/resolv.conf
echo "$hosts" >etc/hosts
echo "$name" >etc/hostname
echo "nameserver $resolver" >etc/resolv.conf
# As an initial RAM file system does it: the old root is under the new one, out of reach.
cd "$root"
mount --move . /
set -- chroot . /bin/sh -c "$init" init "$old_path" "$directory" "$@"
# What would reach beyond the namespaces: clock, kernel modules and log, devices.
dropped=-sys_time,-sys_module,-sys_rawio,-syslog,-mknod,-wake_alarm,-audit_control,-mac_admin,-mac_override
[ "$own_users" ] || set -- setpriv --bounding-set="$dropped" "$@"
exec setsid "$@"
"""

# What becomes of it: in the device's root, leader of a session on its tty. The kernel makes this process the
# parent of all orphans; a shell reaps them while it waits. $1: PATH; $2: the folder; $3: the tty; the command.
INIT = r"""
PATH=$1
cd "$2" || exit 1
tty=$3
shift 3
exec <>"$tty" >&0
# It has nothing to say of how its command ended.
exec 2>/dev/null
"$@" 2>&1
exit $?
"""
