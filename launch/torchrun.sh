#!/usr/bin/env bash
# DDP by torchrun: a rank for each GPU of this machine.
#
#     launch/torchrun.sh scst --config scst/coco_blip_base --data dataset_coco.json --output_dir runs/scst
#
# Several machines: the same command on each, with NODES=2, NODE_RANK=0 (then 1) and MASTER_ADDR, the first one's name.
# RANKS=2 starts so many ranks (on a machine without GPUs it must be set); MASTER_PORT is 29500 unless set.
set -euo pipefail

nodes=${NODES:-1}
if ((nodes == 1)); then
    meeting=(--standalone)
else
    meeting=(--nnodes "$nodes" --node-rank "${NODE_RANK:?which of the machines is this? 0, 1, ...}")
    meeting+=(--master-addr "${MASTER_ADDR:?the name of machine 0}" --master-port "${MASTER_PORT:-29500}")
fi
if [[ -z ${RANKS:-} ]] && ! "${PYTHON:-python}" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "torchrun.sh: torch sees no GPU on this machine: set RANKS, the number of ranks (RANKS=2 launch/torchrun.sh ...)" >&2
    exit 2
fi
exec "${PYTHON:-python}" -m torch.distributed.run "${meeting[@]}" --nproc-per-node "${RANKS:-gpu}" -m rlcap "$@"
