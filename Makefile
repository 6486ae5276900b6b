# The front door: every job is a target. The logic lives in factory/, ansible/ and tests/.
.DEFAULT_GOAL := help
.PHONY: help setup image demo ssh test test-fast test-runtime test-roles test-image lint lock clean
MAKEFLAGS += --no-print-directory

# make image VARS=my-model.yml   bakes another model (see ansible/models/)
# make image PACKER=path         builds with another Packer than the one on PATH
export VARS PACKER

PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
export PATH := $(CURDIR)/.venv/bin:$(PATH)

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: ## Install what a build host needs: Debian packages and .venv
	@factory/setup.sh

image: setup ## Build the local disk image: build/preheat-VERSION.raw and .qcow2
	@$(PYTHON) -m factory image

demo: setup ## Build the image, boot it, transcribe a sample on it over ssh
	@$(PYTHON) -m factory demo

ssh: setup ## Boot the image on a throw-away overlay and open a shell on it
	@$(PYTHON) -m factory ssh

test: setup lint image ## Everything: lint, runtime, roles, image
	@$(PYTEST) tests

test-fast: setup lint test-runtime ## Lint and runtime tests, in about ten minutes

test-runtime: setup ## Tests of what runs on the image
	@$(PYTEST) tests/runtime

test-roles: setup ## Tests of the Ansible roles, each in a container of its own
	@$(PYTEST) tests/roles

test-image: image ## Tests of the finished image: boots it and looks over ssh
	@$(PYTEST) tests/image

lint: setup ## ruff, mypy, shellcheck, yamllint, ansible-lint, packer
	@tests/lint.sh

lock: setup ## Write the lock files anew from pyproject.toml
	@factory/lock.sh

clean: setup ## Remove build/ and the role tests' containers and images
	@$(PYTHON) -m factory clean
