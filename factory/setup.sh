#!/usr/bin/env bash
# Make a Debian 12 machine a build host: Debian packages, then .venv from the lock.
# Safe to run again: it installs only what is missing and says nothing when there is nothing to do.
set -euo pipefail
cd "$(dirname "$0")/.."

# `make ami` has its own script, which works without root and on other systems.
if [[ ${1:-} == ami ]]; then exec factory/setup-ami.sh; fi

die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

packages=(
  ca-certificates git openssh-client python3-venv   # needed by everything below
  mmdebstrap arch-test                              # the base system, from Debian's packages
  dosfstools e2fsprogs fdisk mtools                 # a disk image, written without loop devices
  grub-efi-amd64-bin grub-common                    # its boot loader
  mount systemd-container                           # to boot it as a container
  ovmf qemu-system-x86 qemu-utils                   # to boot it as a virtual machine: firmware, boot loader, kernel
  crun podman runc                                  # containers for the role tests
  espeak-ng                                         # speaks the recordings of the tests
  fuse3 python3-pyfuse3                             # the slow volume of bench.boot
  shellcheck                                        # lint
)

host=$(uname -sr)
# shellcheck disable=SC1091 # a system file, not in this tree
[[ ! -e /etc/os-release ]] || host=$(. /etc/os-release && echo "$ID ${VERSION_ID:-}")
[[ $host == "debian 12" ]] ||
  die "every target but make ami needs root on Debian 12; this host is $host. Use a Debian 12 machine or VM."
[[ $(id -u) == 0 ]] ||
  die "every target but make ami needs root, to install packages and to mount and boot disk images. Run: sudo make setup"

# One setup at a time, because of the shared .venv. The lock is released when the process ends, however it ends.
mkdir -p "$(readlink --canonicalize-missing build)" # it may be a link whose target does not exist yet
exec 9>build/setup.lock
flock --nonblock 9 || { echo "setup: waiting for another setup of this checkout"; flock 9; }

# molecule looks for .config/molecule/ in the root of a repository, which it recognises by .git or .svn, among others.
# An unpacked tarball has neither.
[[ -e .git ]] || mkdir -p .svn

# Packer: any on PATH that is new enough, else Debian's (docs/development.md, "Which Packer").
command -v "${PACKER:-packer}" >/dev/null || packages+=(packer)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
done
if ((${#missing[@]})); then
  echo "setup: installing ${missing[*]}"
  # Other mirrors that the host lists may be down; only Debian's must answer.
  apt-get update -qq || echo "setup: some package lists could not be fetched; continuing with the others" >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 "${missing[@]}" \
    >build/setup-apt.log 2>&1 ||
    { tail -n 20 build/setup-apt.log >&2; die "apt-get failed; the whole log is build/setup-apt.log"; }
fi

# The distribution's Python, as on the image (it imports torch twice as fast as many self-built ones). A venv contains
# its own path and that of its Python, so it is made again if it was moved or if its Python has changed.
lock=$(cat requirements.txt ansible/roles/venv/files/uv.txt | sha256sum)
venv=$(readlink --canonicalize-missing .venv)
python=$(/usr/bin/python3 -c 'import platform; print(platform.python_version())')
if [[ $(cat .venv/lock.sha256 2>/dev/null) != "$lock" ]] ||
  ! grep --quiet --no-messages --line-regexp "version = $python" .venv/pyvenv.cfg ||
  ! grep --quiet --no-messages --line-regexp "command = .* $venv" .venv/pyvenv.cfg; then
  echo "setup: making .venv from requirements.txt (about 6 GB)"
  /usr/bin/python3 -m venv --clear "$venv"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
    --requirement ansible/roles/venv/files/uv.txt
  VIRTUAL_ENV=$PWD/.venv .venv/bin/uv pip sync --quiet --require-hashes --compile-bytecode \
    requirements.txt ansible/roles/venv/files/uv.txt
  printf '%s\n' "$lock" >.venv/lock.sha256
fi

# For `import preheat`: runtime/ is beside the venv, as on the image. A relative path, so that a linked venv uses the
# runtime/ of its own tree.
echo ../../../../runtime >"$(echo .venv/lib/python3*/site-packages)/preheat.pth"
