#!/usr/bin/env bash
# Turn the dependency groups of pyproject.toml into lock files with hashes (see there).
# The image's lock is first and constrains the host's, so that tests use the image's versions. The host's lock
# constrains the one for `make ami`, so that an AMI is built with the same versions on every host.
set -euo pipefail
cd "$(dirname "$0")/.."

role=ansible/roles/venv/files
compile() {
  .venv/bin/uv pip compile --quiet --python /usr/bin/python3 --generate-hashes --no-header \
    --output-file "$2" --group "$1" "${@:3}"
}

compile uv "$role/uv.txt"
compile image "$role/requirements.txt"
compile host requirements.txt --constraint "$role/requirements.txt"
compile ami requirements-ami.txt --constraint requirements.txt --universal
