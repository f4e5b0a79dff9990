#!/bin/bash
#SBATCH --job-name=scaling
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=6
#SBATCH --time=5
#SBATCH --output=trial/slurm.log
#SBATCH --no-requeue

(
cd trial || exit
scontrol show hostnames >hosts.txt
export MASTER_PORT=22707
export SCALING_INTERFACE=ib0
export OMPI_MCA_btl_tcp_if_include=ib0
export OMPI_MCA_oob_tcp_if_include=ib0
export NCCL_SOCKET_IFNAME==ib0
export MASTER_ADDR=$(ip -o -4 address show dev ib0 | sed -n '1s|.* inet \([^/]*\)/.*|\1|p')
touch began
timeout --kill-after=10 210 srun --job-name=trial --nodes=2 --ntasks=4 --ntasks-per-node=2 --cpus-per-task=3 --mpi=pmix --output=rank-%t.log --distribution=block --cpu-bind=none --overlap --kill-on-bad-exit=0 --wait=10 \
    /opt/python/bin/python -m bench.rank.worker --case case.json --role rank --out . >ranks.log 2>&1 &
ranks=$!
timeout --kill-after=10 210 srun --job-name=trial --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=6 --distribution=block --cpu-bind=none --overlap --kill-on-bad-exit=0 --wait=30 \
    /opt/python/bin/python -m bench.node.agent --case case.json --out . --ranks elsewhere >srun.log 2>&1 &
nodes=$!
wait -n $ranks $nodes
for step in $ranks $nodes; do timeout 10 tail --pid=$step -s 0.2 -f /dev/null; done
kill $ranks $nodes 2>/dev/null
wait
touch ended
)

exit 0
