#!/usr/bin/env bash
# All checks that need a GPU, in one command of at most 8 minutes; bench/gpu/__main__.py describes them.
#
#     bench/gpu.sh --prepare    on this host, with network: fills build/gpu for a machine without network
#     bench/gpu.sh              on that machine: runs all steps, prints a table, writes build/bench/gpu.json
#     bench/gpu.sh --cpu        all steps with a tiny model, to test the checks themselves
set -euo pipefail
cd "$(dirname "$0")/.."

python=.venv/bin/python
if [[ ! -x $python ]]; then # a machine with little more than torch: the rest is in build/gpu as wheels
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
