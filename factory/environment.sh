#!/bin/bash -p
# Run a command in preheat's environment: the variables that environment.txt lists, a PATH with the venv and all system
# folders, a fixed locale, and a umask with which others can read new files. With -p, Bash ignores BASH_ENV. It must
# also work with Bash 3.2 and BSD's tools, as on macOS.
set -euo pipefail
here=$(cd -- "${0%/*}" && pwd -P)

# Other characters in a path have a special meaning in PATH, in options of mount and QEMU, or in commands for ssh and
# mmdebstrap.
build=${here%/*}/build
if [[ -d $build ]]; then
  build=$(cd -- "$build" && pwd -P)
elif [[ -L $build ]]; then # a link whose target does not exist yet
  build=$(readlink "$build")
fi
for place in "${here%/*}" "$build"; do
  if [[ $place == *[^A-Za-z0-9/._+@~-]* ]]; then
    echo "error: the path $place has other characters than letters, digits and ._+@~-" >&2
    echo "  Move it, or for build/ point the link to another folder" >&2
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
# A shell started by `su` lacks the sbin folders on its PATH, where most disk tools are.
exec env -i "${kept[@]}" LC_ALL=C.UTF-8 PREHEAT_ENVIRONMENT=clean \
  "PATH=${here%/*}/.venv/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin" "$@"
