# The one file to edit. Type `. osc/settings.sh` in the shell that submits; the jobs read it too.
# Partition, time and GPUs stand in the first lines of each .sbatch file, because Slurm reads them there.
export SBATCH_ACCOUNT=${SBATCH_ACCOUNT:-PAS0000} # your project's code

SPACE=${SPACE:-/fs/ess/$SBATCH_ACCOUNT/$USER/reid} # project space, seen by all nodes and not wiped
RUN=${RUN:-$SPACE/runs/paper}                      # one training: weights/ and logs/ are made in it
DATA_TAR=${DATA_TAR:-$SPACE/data.tar}              # the photographs, one file: 15,000 small ones would be slow to stage
PYTHON_ENVIRONMENT=${PYTHON_ENVIRONMENT:-$SPACE/python} # what setup.sh makes; Slurm has a variable ENVIRONMENT of its own

RECIPE=${RECIPE:-paper}
BACKBONE=${BACKBONE:-resnet50}                # what setup.sh fetches, as the compute nodes have no internet
INIT=${INIT-$SPACE/$BACKBONE.safetensors}     # "" for random weights
# more options of train, such as --set GROUP.FIELD=VALUE; with this one a job that got no GPU ends at once
SETTINGS=${SETTINGS---set runtime.device=cuda}
# One job each for array.sbatch. Encoders of a recipe with a shared one (finetuned) belong in one job, with commas.
read -r -a NETWORKS <<< "${NETWORKS:-species LynxID2025 SalamanderID2025 SeaTurtleID2022}"
MODULES=${MODULES-miniconda3}
