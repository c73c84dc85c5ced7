#!/bin/sh
# Two machines with four GPUs each; sbatch slurm.sh. Each of the eight tasks is a rank, and SLURM's variables tell it which.
#SBATCH --job-name=owt
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# SIGTERM before the time is over: the ranks save after their step.
#SBATCH --signal=TERM@120

export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-8}"
srun owt train mine.yaml --resume
