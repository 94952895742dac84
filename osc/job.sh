# What the jobs have in common; each .sbatch file sources it.
#   train COMMAND...   runs `COMMAND... train DATA --out WEIGHTS ...`, and queues the job again when a signal stopped it
set -euo pipefail
. osc/settings.sh

mkdir -p "$RUN/logs"
log=$RUN/logs/$SLURM_JOB_NAME-$SLURM_JOB_ID.log
echo "the log is $log"
exec >> "$log" 2>&1
echo "$(date): job $SLURM_JOB_ID on $SLURM_JOB_NODELIST, start number ${SLURM_RESTART_COUNT:-0}"

for module in $MODULES; do module load "$module"; done
export PATH=$PYTHON_ENVIRONMENT/bin:$PATH
scratch=${TMPDIR:-/tmp}/reid-$SLURM_JOB_ID # on the node's own disk; weights and checkpoints never lie there
each_node() { if ((SLURM_NNODES > 1)); then srun --ntasks="$SLURM_NNODES" --ntasks-per-node=1 "$@"; else "$@"; fi; }

stopped=
stop() { # srun that gets a signal kills its tasks at once, so the signal goes to them directly
  if [ "${starter:-}" = srun ]; then scancel --signal=TERM "$SLURM_JOB_ID"; else kill -TERM "${work:-}"; fi 2>/dev/null || true
}
trap 'stopped=yes; echo "$(date): asked to stop"; stop' USR1 TERM

train() {
  each_node sh -c "rm -rf '$scratch' && mkdir -p '$scratch' && tar -xf '$DATA_TAR' -C '$scratch'"
  # shellcheck disable=SC2086 # SETTINGS holds several words
  "$@" train "$scratch" --out "$RUN/weights" --recipe "$RECIPE" ${INIT:+--init "$INIT"} $SETTINGS ${ONLY:+--only "$ONLY"} &
  work=$! starter=$1
  local status=0
  [ -z "$stopped" ] || stop
  while kill -0 "$work" 2>/dev/null; do # a signal wakes `wait` before its time
    status=0
    wait "$work" || status=$?
  done
  each_node rm -rf "$scratch"
  # `reid train` ends with 75 when a signal stopped it; torchrun and srun then have other statuses
  if [ "$status" = 75 ] || { [ -n "$stopped" ] && [ "$status" != 0 ]; }; then
    echo "$(date): to be resumed (status $status)"
    trap '' TERM
    scontrol requeue "$SLURM_JOB_ID"
    sleep 60 # Slurm ends this script meanwhile
  fi
  echo "$(date): ended with status $status"
  exit "$status"
}
