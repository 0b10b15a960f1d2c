#!/usr/bin/env bash
# What slurm.sh runs on each node: the launcher, and between it and SLURM the signals.
#
# A launcher that is told TERM kills its ranks 30 seconds later, and USR1 ends it. So both go past it, to the ranks, which
# take the time that a step and a checkpoint need; a launcher also ends with 1 whatever its ranks end with, so the
# exit code 138 (128 + USR1: start it again) is given here.
set -euo pipefail

launch=$(dirname "$0")
ranks=${RANKS:-${SLURM_GPUS_ON_NODE:?this job has no GPUs: set RANKS, the number of ranks a node}}

(
    trap '' USR1   # where SLURM signals all processes of a step, the launcher stays; ranks listen all the same
    export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=600
    exec "${PYTHON:-python}" -m accelerate.commands.launch --config_file "${ACCELERATE_CONFIG:-$launch/ddp.yaml}" \
        --num_machines "$SLURM_NNODES" --num_processes "$((SLURM_NNODES * ranks))" --machine_rank "$SLURM_NODEID" \
        --main_process_ip "$MASTER_ADDR" --main_process_port "$MASTER_PORT" -m rlcap "$@"
) &
launcher=$!
trap 'told=yes; stopped=yes; pkill -USR1 -P "$launcher" -f rlcap || true' USR1 TERM

told=yes stopped=
while [[ -n $told ]]; do   # a signal ends `wait`, not the launcher
    told=
    wait "$launcher" && code=0 || code=$?
done
[[ -z $stopped ]] || ((code == 0)) || code=138
exit "$code"
