#!/usr/bin/env bash
# Prove memory placement on a machine with two NUMA nodes, which QEMU emulates.
#
#   scripts/numa-test.sh [PYTHON]    boots the guest and runs tests/numa/placement.py in it
#
# The guest uses the host's files (read-only; what it writes stays in memory), so it
# runs the same Python and MPI. Software emulation: it says nothing about speed.
#
#   PYTHON                the Python of the environment to test (default: .venv's, else python3)
#   NUMA_TEST_CACHE=...   where the guest's kernel is kept (default: ~/.cache/hpcstream/numa-guest)
#   NUMA_TEST_LOG=...     where the output goes (default: in the cache)
#   NUMA_TEST_SECONDS=... give up after so long (default: 1500)
set -euo pipefail

project=$(cd "$(dirname "$0")/.." && pwd)
cache=${NUMA_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hpcstream/numa-guest}
log=${NUMA_TEST_LOG:-$cache/console.log}
modules="virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci
         netfs fscache 9pnet 9pnet_virtio 9p overlay"

fail() {
    echo "numa-test: $*" >&2
    exit 2
}

find_python() {
    local asked found
    asked=${1:-$project/.venv/bin/python}
    [ $# -gt 0 ] || [ -x "$asked" ] || asked=python3
    found=$(command -v "$asked") || fail "no $asked; name a Python, as in $0 .venv/bin/python"
    python=$(cd "$(dirname "$found")" && pwd)/$(basename "$found")
    "$python" -c "import mpi4py, numpy, pyarrow" ||
        fail "$python lacks the packages of hpcstream; name the Python of your environment"
}

install_tools() {
    local tool missing=""
    for tool in qemu-system-x86_64 busybox cpio dpkg; do
        command -v "$tool" > /dev/null || missing="$missing $tool"
    done
    [ -n "$missing" ] || return 0
    command -v apt-get > /dev/null ||
        fail "needs$missing (busybox as a static binary); install them first"
    echo "numa-test: installing qemu, busybox and cpio"
    apt-get install -y --no-install-recommends qemu-system-x86 busybox-static cpio > "$cache/apt.log" 2>&1 ||
        fail "apt-get failed (see $cache/apt.log); try: apt-get update"
}

fetch_kernel() {
    ls "$cache"/kernel/boot/vmlinuz-* > /dev/null 2>&1 && return
    local package
    package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: //p' | head -n 1)
    [ -n "$package" ] || fail "apt knows no linux-image-amd64; try: apt-get update"
    echo "numa-test: fetching $package"
    (cd "$cache" && apt-get download "$package" > "$cache/apt.log" 2>&1) ||
        fail "apt-get download $package failed (see $cache/apt.log)"
    dpkg -x "$cache"/linux-image-*.deb "$cache/kernel"
    rm "$cache"/linux-image-*.deb
}

make_initrd() {
    local tree module found
    tree=$(mktemp -d)
    mkdir -p "$tree"/{bin,proc,sys,dev,host,writes,root,modules}
    cp "$(command -v busybox)" "$tree/bin/busybox"
    install -m 755 "$project/tests/numa/init" "$tree/init"
    for module in $modules; do
        found=$(find "$cache/kernel/lib/modules" -name "$module.ko" | head -n 1)
        [ -z "$found" ] || cp "$found" "$tree/modules/"
    done
    printf '%s=%q\n' PROJECT "$project" PYTHON "$python" MODULES "$(echo $modules)" > "$tree/numa-test.env"
    (cd "$tree" && find . | cpio -o -H newc --quiet | gzip -1) > "$cache/initrd.gz"
    rm -rf "$tree"
}

boot() {
    local kernel
    kernel=$(ls "$cache"/kernel/boot/vmlinuz-* | tail -n 1)
    nice -n 15 timeout "${NUMA_TEST_SECONDS:-1500}" qemu-system-x86_64 \
        -machine q35 -accel tcg,thread=multi -cpu max -smp 4,sockets=2,cores=2,threads=1 -m 4G \
        -object memory-backend-ram,id=m0,size=2G -object memory-backend-ram,id=m1,size=2G \
        -numa node,nodeid=0,cpus=0-1,memdev=m0 -numa node,nodeid=1,cpus=2-3,memdev=m1 \
        -numa dist,src=0,dst=1,val=21 \
        -kernel "$kernel" -initrd "$cache/initrd.gz" \
        -append "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable" \
        -virtfs local,path=/,mount_tag=hostroot,security_model=none,readonly=on,multidevs=remap \
        -nographic -no-reboot -monitor none -serial stdio -net none < /dev/null |
        sed -u -e 's/\x1b\[[^a-zA-Z]*[a-zA-Z]//g' -e 's/\x1bc//g' -e 's/\r//g' | tee "$log"
}

mkdir -p "$cache"
find_python "$@"
install_tools
fetch_kernel
make_initrd
echo "numa-test: booting a guest with two NUMA nodes; this takes a minute or more"
boot || true
grep -q '^numa-test: result 0$' "$log" ||
    fail "FAILED: placement is not as it should be, or the guest did not get there (see $log)"
echo "numa-test: passed; output kept in $log"
