#!/bin/bash -p
# Run a command in the environment that all of preheat runs in: what environment.txt lets through, the venv's and the
# system's own programs on PATH, one locale, and files that others may read. With -p, Bash reads no BASH_ENV.
set -euo pipefail
here=$(cd -- "${0%/*}" && pwd -P)

mapfile -t patterns < <(grep -v -e '^#' -e '^$' "$here/environment.txt")
kept=()
while IFS= read -r -d '' variable; do
  for pattern in "${patterns[@]}"; do
    # shellcheck disable=SC2053 # a pattern
    if [[ ${variable%%=*} == $pattern ]]; then kept+=("$variable"); fi
  done
done < <(env --null)

umask 022
# A shell by `su` has no sbin on its PATH, where most of a disk's tools are.
exec env --ignore-environment "${kept[@]}" LC_ALL=C.UTF-8 PREHEAT_ENVIRONMENT=clean \
  "PATH=${here%/*}/.venv/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin" "$@"
