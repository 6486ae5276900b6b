#!/usr/bin/env bash
# Every linter, every finding fatal, no ignore file. Run by `make lint`, which puts .venv/bin on PATH.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf 'lint: %s\n' "$*" >&2; "$@"; }

step ruff check --quiet
step ruff format --quiet --check
step mypy --strict factory deploy bench runtime tests
step cfn-lint --config-file /dev/null deploy/fleet.yml
step shellcheck bench/*.sh factory/*.sh tests/*.sh .ci/run
step yamllint --strict .
step env ANSIBLE_ROLES_PATH="$PWD/ansible/roles" ansible-lint --offline --strict --profile production ansible molecule
step "${PACKER:-packer}" fmt -check -diff packer
