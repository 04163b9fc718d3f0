# Boots systemd as process 1 of namespaces of its own, over a copy-on-write view of this machine: what it writes is in memory, and gone with it.
#
# Called as: unshare --mount --pid --uts --ipc --net --cgroup --fork --kill-child bash boot.sh DIRECTORY PREFIX SOURCE PYTHON [NEWER]
# PREFIX (the environment that runs the tests) is seen as /opt/lookalike, SOURCE (the checkout) as /opt/source: places that every
# user may enter. PYTHON, which the environment was made of, stays where it is, and every user may enter that too. What is in NEWER
# lies over what this machine has: another systemd than its own.
set -euo pipefail
directory=$1 prefix=$2 source=$3 python=$4 newer=${5:-}

mount -t tmpfs tmpfs "$directory"
cd "$directory"
over() {
    mkdir -p "layers/$1/upper" "layers/$1/work" "$3"
    mount -t overlay overlay -o "lowerdir=$2,upperdir=layers/$1/upper,workdir=layers/$1/work" "$3"
}
mkdir layers layers/newer
# A layer may not lie within another, so this one is copied out of it.
[ -z "$newer" ] || cp --archive "$newer/." layers/newer
over root layers/newer:/ root
over prefix "$prefix" root/opt/lookalike
over source "$source" root/opt/source
while [ "$python" != / ]; do
    chmod o+rx "root$python"
    python=$(dirname "$python")
done

cd root
mount -t proc proc proc
# As containers have it: what belongs to the whole machine can be read, and not set.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for place in run tmp var/tmp dev; do mount -t tmpfs -o mode=755 tmpfs "$place"; done
chmod 1777 tmp var/tmp
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
ln -s /proc/self/fd dev/fd
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs dev/shm
pivot_root . mnt
umount --lazy /mnt
# As systemd has it on a machine: what is mounted later, credentials too, is seen by the services.
mount --make-rshared /
# It is root of its namespaces, and of nothing outside them: no kernel module, no clock.
exec setpriv --bounding-set=-sys_module,-sys_time,-sys_rawio,-syslog env -i container=lookalike PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --log-target=journal systemd.unit=basic.target
