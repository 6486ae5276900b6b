#!/bin/bash -p
# Run a command in the environment that all of preheat runs in: what environment.txt lets through, the venv's and the
# system's own programs on PATH, one locale, and files that others may read. With -p, Bash reads no BASH_ENV. Written for
# Bash 3.2 and for BSD's programs, too, which macOS has.
set -euo pipefail
here=$(cd -- "${0%/*}" && pwd -P)

# Neither a search path, nor a mount's and QEMU's options, nor ssh's and mmdebstrap's commands tell other characters
# in a path from their own.
build=${here%/*}/build
if [[ -d $build ]]; then
  build=$(cd -- "$build" && pwd -P)
elif [[ -L $build ]]; then # to where nothing is yet
  build=$(readlink "$build")
fi
for place in "${here%/*}" "$build"; do
  if [[ $place == *[^A-Za-z0-9/._+@~-]* ]]; then
    echo "error: the path $place has other characters than letters, digits and ._+@~-" >&2
    echo "  Move it, or for build/ let the link name another folder" >&2
    exit 1
  fi
done

patterns=()
while IFS= read -r pattern; do patterns+=("$pattern"); done < <(grep -v -e '^#' -e '^$' "$here/environment.txt")
kept=()
while IFS= read -r -d '' variable; do
  for pattern in "${patterns[@]}"; do
    # shellcheck disable=SC2053 # a pattern
    if [[ ${variable%%=*} == $pattern ]]; then kept+=("$variable"); fi
  done
done < <(env -0)

umask 022
# A shell by `su` has no sbin on its PATH, where most of a disk's tools are.
exec env -i "${kept[@]}" LC_ALL=C.UTF-8 PREHEAT_ENVIRONMENT=clean \
  "PATH=${here%/*}/.venv/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin" "$@"
