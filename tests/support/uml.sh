# Boots User-Mode Linux on this machine's own files. Sourced by tests/oldest, tests/ktls and bench/peers/kernel.

uml_modules=/usr/lib/uml/modules

# uml_why_not_ktls: what is missing for a guest with the module tls; nothing when it can be.
uml_why_not_ktls() {
    if ! command -v linux.uml >/dev/null; then
        echo "User-Mode Linux is not installed"
    elif [[ ! -x /sbin/modprobe ]]; then
        echo "modprobe (package kmod) is not installed"
    elif [[ ! -d $uml_modules ]]; then
        echo "the modules of User-Mode Linux are not in $uml_modules"
    fi
}

# uml_load_tls WORK: prints commands for the guest. Its modules are not where modprobe looks, and the kernel asks for
# those of the ciphers by itself.
uml_load_tls() {
    mkdir "$1/lib"
    ln -s "$uml_modules" "$1/lib/modules"
    cat >"$1/modprobe" <<MODPROBE
#!/bin/sh
exec /sbin/modprobe -d "$1" "\$@"
MODPROBE
    chmod +x "$1/modprobe"
    cat <<COMMANDS
echo "$1/modprobe" >/proc/sys/kernel/modprobe
"$1/modprobe" tls 2>modprobe.log
COMMANDS
}

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
