#!/usr/bin/env bash
# Make a Debian 12 machine a build host: Debian packages, then .venv from the lock.
# Safe to run again: it installs only what is missing and says nothing when there is nothing to do.
set -euo pipefail
cd "$(dirname "$0")/.."

# For `make ami` alone another script does it, without root and on other systems, too.
if [[ ${1:-} == ami ]]; then exec factory/setup-ami.sh; fi

die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

packages=(
  ca-certificates git openssh-client python3-venv   # what everything below leans on
  mmdebstrap arch-test                              # the base system, from Debian's packages
  dosfstools e2fsprogs fdisk mtools                 # a disk image, written without loop devices
  grub-efi-amd64-bin grub-common                    # its boot loader
  mount systemd-container                           # boots it as a container, in a second
  ovmf qemu-system-x86 qemu-utils                   # boots it as a machine: firmware, loader, kernel
  crun podman runc                                  # machines for the role tests
  espeak-ng                                         # speaks the recordings of the tests
  fuse3 python3-pyfuse3                             # the slow volume of bench.boot
  shellcheck                                        # lint
)

host=$(uname -sr)
# shellcheck disable=SC1091 # a file of the system, not of this tree
[[ ! -e /etc/os-release ]] || host=$(. /etc/os-release && echo "$ID ${VERSION_ID:-}")
[[ $host == "debian 12" ]] ||
  die "all but make ami needs root on Debian 12, and this host is $host. Use a Debian 12 machine or VM."
[[ $(id -u) == 0 ]] ||
  die "all but make ami needs root, to install packages and to mount and boot disk images. Run: sudo make setup"

# One at a time: two would install into one .venv. The lock goes with the process, however it ends.
mkdir -p "$(readlink --canonicalize-missing build)" # it may be a link to where nothing is yet
exec 9>build/setup.lock
flock --nonblock 9 || { echo "setup: waiting for another setup of this checkout"; flock 9; }

# molecule reads .config/molecule/ at the root of a repository, by these names; an unpacked tarball is none.
[[ -e .git ]] || mkdir -p .svn

# Packer: any on PATH that is new enough, else Debian's (docs/development.md, "Which Packer").
command -v "${PACKER:-packer}" >/dev/null || packages+=(packer)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
done
if ((${#missing[@]})); then
  echo "setup: installing ${missing[*]}"
  # A build host may list mirrors of its own that are down; only Debian's must answer.
  apt-get update -qq || echo "setup: some package lists could not be fetched; going on with the others" >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 "${missing[@]}" \
    >build/setup-apt.log 2>&1 ||
    { tail -n 20 build/setup-apt.log >&2; die "apt-get failed; the whole log is build/setup-apt.log"; }
fi

# The distribution's own Python, as on the image (it imports torch twice as fast as many self-built ones).
# A venv holds its own path and its Python's: it works neither where it was moved to nor with another Python.
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

# `import preheat`: runtime/ beside the venv, as on the image. Relative, so that a link to a venv finds its own tree.
echo ../../../../runtime >"$(echo .venv/lib/python3*/site-packages)/preheat.pth"
