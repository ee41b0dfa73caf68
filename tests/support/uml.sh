# Boots User-Mode Linux on this machine's own files. Sourced by tests/oldest and tests/ktls.

# uml_boot WORK MEMORY PATIENCE_S <COMMANDS
#
# Runs COMMANDS as root in the guest, in the directory WORK, and powers it off. WORK/kernel says which kernel it was and
# is missing when it did not boot; WORK/console has what it said.
uml_boot() {
    local work=$1 memory=$2 patience_s=$3
    {
        cat <<INIT
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
ip link set lo up
ulimit -n 4096
cd "$work"
uname -r >kernel
INIT
        cat
        cat <<INIT
sync
echo o >/proc/sysrq-trigger
sleep 10
INIT
    } >"$work/init"
    chmod +x "$work/init"
    timeout "$patience_s" linux.uml "mem=$memory" root=/dev/root rootfstype=hostfs rootflags=/ rw con=null \
        con0=fd:0,fd:1 "init=$work/init" </dev/null >"$work/console" 2>&1
    [[ -s $work/kernel ]]
}
