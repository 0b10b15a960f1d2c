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
exec "${PYTHON:-python}" -m torch.distributed.run "${meeting[@]}" --nproc-per-node "${RANKS:-gpu}" -m rlcap "$@"
