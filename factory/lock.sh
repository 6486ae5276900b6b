#!/usr/bin/env bash
# Turn the dependency groups of pyproject.toml into lock files with hashes (see there).
# The image's lock comes first and constrains the host's: tests run what the image runs. The host's constrains what is
# for `make ami` alone, so that an AMI is made by the same versions wherever it is made.
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
