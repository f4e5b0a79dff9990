#!/bin/bash
#SBATCH --job-name=scaling
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=1
#SBATCH --gpus-per-node=1
#SBATCH --time=5
#SBATCH --output=trial/slurm.log
#SBATCH --no-requeue

(
cd trial || exit
scontrol show hostnames >hosts.txt
export MASTER_PORT=22707
touch began
timeout --kill-after=10 210 srun --job-name=trial --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=1 --distribution=block --cpu-bind=none --overlap --kill-on-bad-exit=0 --wait=30 \
    apptainer exec --nv --bind "$PWD" --pwd "$PWD" /images/torch.sif /opt/python/bin/python -m bench.node.agent --case case.json --out . >srun.log 2>&1
touch ended
)

exit 0
