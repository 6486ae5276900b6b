#!/usr/bin/env bash
# Install what `make ami` needs into .venv, without root or system packages, on Linux or macOS. Safe to run again.
# It must also work with Bash 3.2 and BSD's tools, as on macOS.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

for place in . .venv build build/ami build/logs build/run build/run/ami; do
  [[ ! -e $place || -w $place ]] ||
    die "$PWD/$place belongs to another user, for example after sudo make. Use sudo here too, or a clone of your own."
done
for program in git ssh scp; do
  command -v "$program" >/dev/null || die "make ami needs $program, which is not installed. Install it."
done

# Do not use the Python of the venv that is to be replaced.
PATH=${PATH#"$PWD/.venv/bin:"}
old="import sys; sys.exit(sys.version_info < (3, 11))"
for python in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11 none; do
  if "$python" -c "$old" 2>/dev/null; then break; fi
done
[[ $python != none ]] || die "make ami needs Python 3.11 or newer on PATH. Install it."

# A venv of `make setup` has all this and more. A venv does not work if it was moved or its Python has changed.
state='
import hashlib, os, platform, sys
def locked(lock):
    text = b"".join(open(name, "rb").read() for name in (lock, "ansible/roles/venv/files/uv.txt"))
    return hashlib.sha256(text).hexdigest() + "  -"
def read(name):
    return open(".venv/" + name).read() if os.path.exists(".venv/" + name) else ""
venv, ours = os.path.realpath(".venv"), locked("requirements-ami.txt")
lines, lock = read("pyvenv.cfg").splitlines(), read("lock.sha256").strip()
whole = lock in (ours, locked("requirements.txt")) and any(l.endswith(" " + venv) for l in lines)
print("whole" if whole and os.path.exists(".venv/bin/python") else "making", venv, ours)
'
read -r what venv lock <<<"$("$python" -c "$state")"
[[ $what == making ]] || exit 0
echo "setup: making .venv from requirements-ami.txt, for make ami"
"$python" -m venv --clear "$venv"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
  --requirement ansible/roles/venv/files/uv.txt
VIRTUAL_ENV=$PWD/.venv .venv/bin/uv pip sync --quiet --require-hashes \
  requirements-ami.txt ansible/roles/venv/files/uv.txt
printf '%s\n' "$lock" >.venv/lock.sha256
