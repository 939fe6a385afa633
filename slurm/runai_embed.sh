#!/bin/bash
# Features of all tissues by RUNAI_PODS pods (1 unless given) of one GPU each, which share the tissues: each takes
# those that no other is at. Prints the command line of `runai`; SUBMIT=1 before it runs that, too.
#
#   export RUNAI_PROJECT=pathology RUNAI_IMAGE=registry/tissueseg:0.8 RUNAI_PVC=data:/data RUNAI_NODE_POOL=default
#   RUNAI_JOB=features RUNAI_PODS=8 slurm/runai_embed.sh +experiment=boundary_att setting=orion views.dihedral=8
#
# Give it the words that `train` will get. Paths are those of the volume, relative ones from its root. Finished
# tissues are kept: pods that are started again go on with those that are left. runai_submit.sh tells of the
# other variables.
set -euo pipefail

pods=${RUNAI_PODS:-1}
[[ $pods =~ ^[1-9][0-9]*$ ]] || {
  echo "error: RUNAI_PODS=$pods, wanted a whole number from 1: export RUNAI_PODS=1" >&2
  exit 2
}
exec "${BASH_SOURCE[0]%/*}/runai_submit.sh" "training submit" --gpu-devices-request 1 \
  --parallelism "$pods" --runs "$pods" -- python -m tissueseg.embed trainer=gpu "$@"
