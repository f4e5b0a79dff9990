#!/bin/bash
#SBATCH --job-name=scaling
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=6
#SBATCH --time=12
#SBATCH --output=trial/slurm.log
#SBATCH --no-requeue
#SBATCH --no-kill

(
cd 00-a || exit
scontrol show hostnames >hosts.txt
export MASTER_PORT=28815
touch began
timeout --kill-after=10 210 srun --job-name=00-a --nodes=1 --ntasks=1 --ntasks-per-node=1 --cpus-per-task=1 --distribution=block --cpu-bind=none --overlap --kill-on-bad-exit=0 --wait=30 \
    /opt/python/bin/python -m bench.node.agent --case case.json --out . >>srun.log 2>&1
touch ended
)

(
cd 00-b || exit
scontrol show hostnames >hosts.txt
export MASTER_PORT=29356
touch began
timeout --kill-after=10 210 srun --job-name=00-b --nodes=2 --ntasks=4 --ntasks-per-node=2 --cpus-per-task=3 --mpi=pmix --output=rank-%t.log --open-mode=append --distribution=block --cpu-bind=none --overlap --kill-on-bad-exit=0 --wait=10 \
    /opt/python/bin/python -m bench.rank.worker --case case.json --role rank --out . >>ranks.log 2>&1 &
ranks=$!
timeout --kill-after=10 210 srun --job-name=00-b --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=6 --distribution=block --cpu-bind=none --overlap --kill-on-bad-exit=0 --wait=30 \
    /opt/python/bin/python -m bench.node.agent --case case.json --out . --ranks elsewhere >>srun.log 2>&1 &
nodes=$!
wait -n $ranks $nodes
for step in $ranks $nodes; do timeout 10 tail --pid=$step -s 0.2 -f /dev/null; done
kill $ranks $nodes 2>/dev/null
wait
touch ended
)

(
cd 00-c || exit
scontrol show hostnames >hosts.txt
export MASTER_PORT=23708
touch began
timeout --kill-after=10 210 srun --job-name=00-c --nodes=4 --ntasks=4 --ntasks-per-node=1 --cpus-per-task=1 --distribution=block --cpu-bind=none --overlap --kill-on-bad-exit=0 --wait=30 \
    /opt/python/bin/python -m bench.node.agent --case case.json --out . >>srun.log 2>&1
touch ended
)

exit 0
