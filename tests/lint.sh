#!/usr/bin/env bash
# Every linter, every finding fatal, no ignore file. Run by `make lint`, which puts .venv/bin on PATH.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf 'lint: %s\n' "$*" >&2; "$@"; }

step ruff check --quiet
step ruff format --quiet --check
# In turns, because flat modules such as conftest would clash.
step env MYPYPATH=tests/fixtures/make mypy --strict factory bench tests/image
step env MYPYPATH=runtime:tests/fixtures/make mypy --strict runtime tests/runtime
step env MYPYPATH=runtime:tests/fixtures/make mypy --strict tests/fixtures/make tests/roles tests/*.py
step env MYPYPATH=tests/ami mypy --strict tests/ami
step shellcheck bench/*.sh factory/*.sh tests/*.sh .ci/run
step yamllint --strict .
step env ANSIBLE_ROLES_PATH="$PWD/ansible/roles" ansible-lint --offline --strict --profile production ansible molecule
step "${PACKER:-packer}" fmt -check -diff packer
