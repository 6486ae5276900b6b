#!/usr/bin/env bash
# Every check that takes a GPU, in one command of at most 8 minutes; what it does stands in bench/gpu/__main__.py.
#
#     bench/gpu.sh --prepare    here, with network: what a machine without any needs is put into build/gpu
#     bench/gpu.sh              there: all steps, one table, and build/bench/gpu.json
#     bench/gpu.sh --cpu        all steps with a tiny model, to try the checks themselves
set -euo pipefail
cd "$(dirname "$0")/.."

python=.venv/bin/python
if [[ ! -x $python ]]; then # a machine with little more than torch: the rest has come along as wheels
  python=$(command -v python3)
  site=$PWD/build/gpu/site
  mkdir -p "$site"
  for wheel in build/gpu/wheels/*.whl; do
    "$python" -m zipfile -e "$wheel" "$site"
  done
  export PYTHONPATH=$site
fi
exec "$python" -m bench.gpu "$@"
