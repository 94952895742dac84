#!/bin/bash
# Once, on a login node, which has internet: the Python environment, the backbone's first weights, the photographs.
#   bash osc/setup.sh     after editing osc/settings.sh; kaggle wants a token in ~/.kaggle/access_token
set -euo pipefail
cd "$(dirname "$0")/.."
. osc/settings.sh

for module in $MODULES; do module load "$module"; done
mkdir -p "$SPACE" "$RUN"
if [ ! -x "$PYTHON_ENVIRONMENT/bin/python" ]; then
  conda create --yes --prefix "$PYTHON_ENVIRONMENT" python=3.12 # the cluster's own Python is older than kaggle wants it
fi
"$PYTHON_ENVIRONMENT/bin/pip" install --quiet --editable .

if [ -n "$INIT" ] && [ ! -f "$INIT" ]; then
  "$PYTHON_ENVIRONMENT/bin/python" -m reid fetch "$BACKBONE" --out "$INIT"
fi
if [ ! -f "$DATA_TAR" ]; then
  "$PYTHON_ENVIRONMENT/bin/python" kernel/kaggle_commands.py data --data "$SPACE/data"
  "$PYTHON_ENVIRONMENT/bin/python" -m reid check "$SPACE/data"
  tar -cf "$DATA_TAR.part" -C "$SPACE/data" . && mv "$DATA_TAR.part" "$DATA_TAR"
fi
echo "ready. Next: . osc/settings.sh && sbatch osc/train.sbatch"
echo "and when it is done, here: $PYTHON_ENVIRONMENT/bin/python kernel/kaggle_commands.py push-weights --weights $RUN/weights"
