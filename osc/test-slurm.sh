#!/bin/bash
# The jobs of this folder on a real Slurm of one node, this machine: started, stopped half-way, queued again, finished.
#   sudo bash osc/test-slurm.sh [PYTHON]     Debian or Ubuntu; PYTHON has the kit (default .venv/bin/python)
# Everything is made below a temporary folder; Slurm's own services and /etc stay as they are.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath -s "${1:-.venv/bin/python}")
command -v slurmctld slurmd munged > /dev/null ||
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends slurm-wlm munge; } > /dev/null
base=$(mktemp -d /tmp/slurm.XXXXXX)
chmod 755 "$base"
say() { echo "$(date +%T) $*"; }

# --- a cluster
mkdir -p "$base"/{munge,state,spool,bin}
chmod 755 "$base/munge"
dd if=/dev/urandom of="$base/munge/key" bs=1024 count=1 status=none && chmod 400 "$base/munge/key"
host=$(hostname -s)
cat > "$base/slurm.conf" <<CONF
ClusterName=toy
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket=$base/munge/socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$base/state
SlurmdSpoolDir=$base/spool
SlurmctldPidFile=$base/slurmctld.pid
SlurmdPidFile=$base/slurmd.pid
SlurmctldLogFile=$base/slurmctld.log
SlurmdLogFile=$base/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu

NodeName=$host NodeAddr=127.0.0.1 CPUs=$(getconf _NPROCESSORS_ONLN) Gres=gpu:2 State=UNKNOWN
PartitionName=nextgen Nodes=$host Default=YES MaxTime=INFINITE State=UP
PartitionName=quad Nodes=$host MaxTime=INFINITE State=UP
CONF
printf 'Name=gpu File=%s\n' /dev/null /dev/zero > "$base/gres.conf" # files must be there; nobody opens them
echo "CgroupPlugin=cgroup/v1" > "$base/cgroup.conf"
export SLURM_CONF=$base/slurm.conf
stop() {
  status=$?
  scancel --user=root 2> /dev/null || true
  for pid in "${slurmd:-}" "${slurmctld:-}" "${munged:-}"; do [ -z "$pid" ] || kill "$pid" 2> /dev/null || true; done
  [ "$status" = 0 ] && rm -rf "$base" || { tail -n 15 "$base"/*.log "$base"/run*/logs/* 2> /dev/null || true; say "kept: $base"; }
}
trap stop EXIT
munged --foreground --force --key-file="$base/munge/key" --socket="$base/munge/socket" --pid-file="$base/munge/pid" \
  --log-file="$base/munge/log" --seed-file="$base/munge/seed" 2> /dev/null & munged=$!
sleep 1
slurmctld -D 2> /dev/null & slurmctld=$!
slurmd -D -N "$host" 2> /dev/null & slurmd=$!
for _ in $(seq 60); do sinfo --noheader --states=idle --format=%n 2> /dev/null | grep -q . && break; sleep 0.5; done
sinfo
say "$(sbatch --version) is up"

# --- the toy recipe, smaller still, as settings.sh would hold it
printf '#!/bin/sh\nexec "%s" "$@"\n' "$python" > "$base/bin/python"
printf '#!/bin/sh\nexec "%s" -m torch.distributed.run "$@"\n' "$python" > "$base/bin/torchrun"
chmod +x "$base"/bin/*
export SBATCH_ACCOUNT=toy SBATCH_OUTPUT=$base/slurm-%j.out
export SPACE=$base PYTHON_ENVIRONMENT=$base MODULES= INIT= RECIPE=toy TMPDIR=$base PYTHONPATH=$PWD/src
export DATA_TAR=$base/data.tar NETWORKS="species LynxID2025 SalamanderID2025 SeaTurtleID2022" OMP_NUM_THREADS=1
export SETTINGS="--save-every 2 --set training.epochs=40 --set training.validate_every=20"
"$python" -m reid toy "$base/data" > /dev/null
tar -cf "$DATA_TAR" -C "$base/data" .
submit() { sbatch --parsable --cpus-per-task=1 "$@"; }
# waits until JOB is in a state of those, at most so many seconds
until_state() {
  for _ in $(seq "$2"); do
    state=$(scontrol show job "$1" 2> /dev/null | grep -o 'JobState=[A-Z_]*' | head -n 1 | cut -d= -f2)
    [[ " $3 " == *" $state "* ]] && return
    sleep 1
  done
  say "job $1 is $state, not $3"; return 1
}
until_said() { for _ in $(seq 400); do grep -q "$2" "$1" 2> /dev/null && return; sleep 0.5; done; say "never: $2"; return 1; }
whole() { "$python" -m reid predict "$base/data" --weights "$1/weights" --out "$1/submission.csv" > /dev/null; }
same() {
  "$python" - "$1/weights" "$2/weights" <<'PY'
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file
one, other = map(Path, sys.argv[1:])
names = [path.name for path in one.glob("*.safetensors") if "gallery" not in path.name]
for name in names:
    a, b = load_file(one / name), load_file(other / name)
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a), name
print(f"{len(names)} networks, equal to the bit")
PY
}

# Slurm lets a requeued job wait for two minutes, so that its node can settle
at_once() { until_state "$1" 60 "PENDING"; scontrol update jobid="$1" starttime=now; }

# --- 1: one job, undisturbed; 2: one that is stopped, then killed by a requeue, and resumes by itself
export RUN=$base/run1
job=$(submit osc/train.sbatch)
until_state "$job" 400 "COMPLETED" && whole "$RUN"
say "1: an undisturbed job: complete"

export RUN=$base/run2
job=$(submit osc/train.sbatch)
log=$RUN/logs/reid-train-$job.log
until_said "$log" "LynxID2025: epoch 20"
scancel --batch --signal=USR1 "$job"
until_said "$log" "stopped by SIGTERM"
at_once "$job"
until_said "$log" "start number 1"
say "2: stopped by USR1: it saved, and Slurm queued it again"
until_said "$log" "SalamanderID2025: epoch 20"
scontrol requeue "$job"
at_once "$job"
until_said "$log" "start number 2"
say "2: requeued from outside"
until_state "$job" 400 "COMPLETED" && whole "$RUN"
grep "resuming after\|to be resumed\|start number" "$log" | sed 's/^/   /'
same "$base/run1" "$RUN"
say "2: complete"

# --- 3: a job for each network, and one that completes the folder
export RUN=$base/run3
array=$(submit osc/array.sbatch)
job=$(submit --dependency=afterok:"$array" osc/train.sbatch)
until_state "$job" 600 "COMPLETED" && whole "$RUN"
same "$base/run1" "$RUN"
say "3: a job for each network, then one for the rest: complete"

# --- 4: two ranks, stopped half-way
export RUN=$base/run4
job=$(submit --nodes=1 --gpus-per-node=2 osc/ranks.sbatch)
log=$RUN/logs/reid-ranks-$job.log
until_said "$log" "LynxID2025: epoch 20"
scancel --batch --signal=USR1 "$job"
until_said "$log" "stopped by SIGTERM"
at_once "$job"
until_said "$log" "start number 1"
until_state "$job" 600 "COMPLETED" && whole "$RUN"
grep "resuming after\|to be resumed\|start number" "$log" | sed 's/^/   /'
say "4: two ranks, stopped and resumed: complete"
say "all four ended as they should"
