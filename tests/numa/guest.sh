# Runs in the guest: the placement program, with ranks bound and not bound.
# usage: guest.sh PROJECT PYTHON
project=$1 python=$2
export PATH=$(dirname "$python"):/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
export HOME=/root TMPDIR=/dev/shm PYTHONPATH=$project PYTHONDONTWRITEBYTECODE=1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_btl=^ofi OMPI_MCA_mtl=^ofi OMPI_MCA_osc=^ucx

finish() {
    echo "numa-test: result $1"
    sleep 1 # the kernel's last words go to the same console
    echo o > /proc/sysrq-trigger
    sleep 30
}

ip link set lo up
echo numa-guest > /proc/sys/kernel/hostname
echo "127.0.0.1 localhost numa-guest" > /etc/hosts # of the guest: what it writes stays in memory
nodes=/sys/devices/system/node
echo "guest: Linux $(uname -r), nodes $(cat $nodes/online)"
for node in $nodes/node[0-9]*; do
    echo "guest: ${node##*/}: cpus $(cat $node/cpulist), distances $(cat $node/distance)"
done

# The kernel would move pages after their reader, and hides those it is about to move.
echo 0 > /proc/sys/kernel/numa_balancing
echo "guest: automatic NUMA balancing is off: pages stay where they were first placed"

if mpiexec --version 2>&1 | grep -qiE 'open.?mpi|open-mpi|prrte'; then
    bound="--map-by ppr:2:numa --bind-to core" unbound="--bind-to none"
else
    bound="-bind-to core" unbound="-bind-to none"
fi
program=$project/tests/numa/placement.py
status=0
echo "guest: mpiexec -n 4 $bound python placement.py"
timeout 600 mpiexec -n 4 $bound "$python" -m mpi4py "$program" || status=$?
echo "guest: mpiexec -n 4 $unbound python placement.py --unbound"
timeout 600 mpiexec -n 4 $unbound "$python" -m mpi4py "$program" --unbound || status=$?
finish $status
