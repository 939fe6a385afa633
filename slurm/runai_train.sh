#!/bin/bash
# One training as a Run:ai workload. Prints the command line of `runai`; SUBMIT=1 before it runs that, too.
#
#   export RUNAI_PROJECT=pathology RUNAI_IMAGE=registry/tissueseg:0.8 RUNAI_PVC=data:/data RUNAI_NODE_POOL=default
#   RUNAI_JOB=boundary-att slurm/runai_train.sh +experiment=boundary_att setting=orion
#   RUNAI_JOB=boundary-att RUNAI_GPUS=4 slurm/runai_train.sh +experiment=boundary_att setting=orion
#   RUNAI_JOB=boundary-att RUNAI_GPUS=4 RUNAI_NODES=2 slurm/runai_train.sh +experiment=boundary_att setting=orion
#
# Paths are those of the volume, relative ones from its root. The run is in runs/<RUNAI_JOB>: pods that are
# started again continue it, since they get the same words. RUNAI_GPUS (1) are a node's, RUNAI_NODES is 1 unless
# given; runai_submit.sh tells of the other variables. What follows the script wins over what it adds.
set -euo pipefail

gpus=${RUNAI_GPUS:-1}
nodes=${RUNAI_NODES:-1}
[[ $gpus =~ ^[1-9][0-9]*$ && $nodes =~ ^[1-9][0-9]*$ ]] || {
  echo "error: RUNAI_GPUS=$gpus and RUNAI_NODES=$nodes, wanted whole numbers from 1: export RUNAI_GPUS=1 RUNAI_NODES=1" >&2
  exit 2
}
submit=${BASH_SOURCE[0]%/*}/runai_submit.sh
words=("run_dir=runs/${RUNAI_JOB-}" resume=auto "$@")

if ((nodes > 1)); then
  # Run:ai tells every pod its RANK among pods and where the first is. Kubernetes starts single pods again, which
  # the others cannot wait for: torchrun ends them all, and all continue.
  # shellcheck disable=SC2016 # is expanded in the pod
  exec "$submit" "training pytorch submit" --workers "$((nodes - 1))" \
    --restart-policy OnFailure --master-restart-policy OnFailure \
    --gpu-devices-request "$gpus" --master-gpu-devices-request "$gpus" -- \
    bash -c 'exec torchrun --nnodes="$0" --nproc-per-node="$1" --node-rank="$RANK" --master-addr="$MASTER_ADDR" --master-port="$MASTER_PORT" -m tissueseg.train "${@:2}"' \
    "$nodes" "$gpus" trainer=ddp "trainer.devices=$gpus" "trainer.num_nodes=$nodes" "${words[@]}"
fi
trainer=(trainer=gpu)
if ((gpus > 1)); then
  trainer=(trainer=ddp "trainer.devices=$gpus")
fi
exec "$submit" "training submit" --gpu-devices-request "$gpus" -- \
  python -m tissueseg.train "${trainer[@]}" "${words[@]}"
