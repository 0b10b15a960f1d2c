#!/usr/bin/env bash
#SBATCH --job-name=rlcap
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#
# One launcher a node, a rank for each GPU. From the root of the repository, with the environment of Python active:
#
#     sbatch launch/slurm.sh scst --config scst/coco_blip_base --data dataset_coco.json --output_dir runs/scst
#
# Five minutes before the time is up (USR1), and when the job is preempted (TERM), all ranks write a checkpoint at the
# end of their step; the job then goes back into the queue, and the same command goes on from the checkpoint.
# output_dir must be on a file system that all nodes see. ACCELERATE_CONFIG=launch/fsdp2.yaml names another file than
# launch/ddp.yaml; RANKS is the number of ranks a node, if not that of its GPUs.
set -euo pipefail

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
MASTER_ADDR=${nodes[0]}
MASTER_PORT=$((20000 + SLURM_JOB_ID % 40000))
export MASTER_ADDR MASTER_PORT
# Since SLURM 22.05 srun does not take over the --cpus-per-task of the job.
[[ -z ${SLURM_CPUS_PER_TASK:-} ]] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

trap 'told=yes; kill -USR1 "$step" 2>/dev/null || true' USR1 TERM   # srun hands it on to node.sh on each node
srun --kill-on-bad-exit=1 "${SLURM_SUBMIT_DIR:-.}/launch/node.sh" "$@" &
step=$!

told=yes
while [[ -n $told ]]; do   # a signal ends `wait`, not the step
    told=
    wait "$step" && code=0 || code=$?
done

if ((code == 138)); then   # told to stop: 128 + USR1
    echo "slurm.sh: job $SLURM_JOB_ID goes back into the queue"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
