#!/bin/bash
# What runai_train.sh and runai_embed.sh share: prints the command line of Run:ai's CLI that submits a workload,
# and runs it if SUBMIT=1. Flags as in the reference of CLI v2, Run:ai 2.22 and later; `runai training submit
# --help` has yours.
#
#   slurm/runai_submit.sh "training submit" <flags of that kind of workload> -- <command in the container>
#
#   RUNAI_PROJECT    your project                                    \
#   RUNAI_IMAGE      the image, registry/tissueseg:tag                |
#   RUNAI_PVC        claim:/path, of runs, stores and weights         | have to be set
#   RUNAI_NODE_POOL  where to run, often `default`                    |
#   RUNAI_JOB        name of the workload; a-z, 0-9 and -            /
#   RUNAI_FLAGS      more flags, as --env-secret WANDB_API_KEY=wandb,key=token --run-as-uid 1234
set -euo pipefail

refuse() {
  echo "error: $1" >&2
  exit 2
}

need() { # variable, what it is
  [[ -n ${!1-} ]] || refuse "$1 is not set, wanted $2: export $1=…"
}

need RUNAI_PROJECT "the name of your Run:ai project"
need RUNAI_IMAGE "the image to run, registry/tissueseg:tag"
need RUNAI_PVC "a persistent volume claim and where it is mounted, claim:/path"
need RUNAI_NODE_POOL "the node pool to run in, often default"
need RUNAI_JOB "a name for the workload; its run folder is named by it, too"
[[ $RUNAI_PVC =~ ^[^:/,]+:/[^:,]*$ ]] || refuse "RUNAI_PVC=$RUNAI_PVC, wanted claim:/path: export RUNAI_PVC=…"
[[ $RUNAI_JOB =~ ^[a-z]([a-z0-9-]{0,48}[a-z0-9])?$ ]] ||
  refuse "RUNAI_JOB=$RUNAI_JOB, wanted at most 50 of a-z, 0-9 and -, a letter first: export RUNAI_JOB=…"

read -ra kind <<<"$1"
read -ra more <<<"${RUNAI_FLAGS-}"
shift
flags=()
while (($#)) && [[ $1 != -- ]]; do
  flags+=("$1")
  shift
done
[[ ${1-} == -- ]] || refuse "no command was given, wanted … -- command: call runai_train.sh or runai_embed.sh"

# - Pods run as any user, often one without a home: HOME is where all may write.
# - -e is --environment of older CLIs and --environment-variable of newer ones, where the long names clash.
# - Training workloads may be pre-empted, and are started again; Kubernetes grants 30 s to save, which is little.
command=(
  runai "${kind[@]}" "$RUNAI_JOB" --project "$RUNAI_PROJECT" --image "$RUNAI_IMAGE"
  --node-pools "$RUNAI_NODE_POOL" --existing-pvc "claimname=${RUNAI_PVC%%:*},path=${RUNAI_PVC#*:}"
  --working-dir "${RUNAI_PVC#*:}" --large-shm --termination-grace-period 2m -e HOME=/tmp
  ${flags[@]+"${flags[@]}"} ${more[@]+"${more[@]}"} --command "$@"
)
if [[ ${SUBMIT-} == 1 ]]; then
  exec "${command[@]}"
fi
line=
quoted="'\\''"
for word in "${command[@]}"; do # in quotes where a shell would read more than the word
  [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || word="'${word//\'/$quoted}'"
  line+=" $word"
done
echo "${line# }"
echo "nothing was submitted: SUBMIT=1 does" >&2
