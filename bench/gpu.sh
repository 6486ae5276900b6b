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
  if [[ ! -e build/gpu/vocabulary.json ]]; then
    echo "bench: build/gpu is not here: run bench/gpu.sh --prepare where there is network, after make setup, and" \
      "bring that folder along" >&2
    exit 2
  fi
  site=$PWD/build/gpu/site
  mkdir -p "$site"
  for wheel in build/gpu/wheels/*.whl; do
    "$python" -m zipfile -e "$wheel" "$site"
  done
  export PYTHONPATH=$site:$PWD/runtime
fi
exec "$python" -m bench.gpu "$@"
