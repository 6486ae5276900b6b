# The entry point: every task is a target. The logic is in factory/, ansible/ and tests/.
.DEFAULT_GOAL := help
.PHONY: help setup setup-ami image demo ssh ami ami-clean fleet fleet-status fleet-remove
.PHONY: test test-fast test-slow test-runtime test-roles test-image test-ami lint docs lock clean
MAKEFLAGS += --no-print-directory

# make image MODEL=owner/name         bakes another model: a hub id, a folder, or a file of variables
# make image PACKER=path              uses another Packer than the one on PATH
# make ami SETTINGS=my.pkrvars.hcl    sets where and how to build the AMI (see packer/variables.pkr.hcl)
# make fleet SETTINGS=my.yml          sets where and how to run the fleet (see docs/fleet.md)
export MODEL PACKER SETTINGS REMOVE

# Keeps the caller's environment out of the image.
CLEAN := factory/environment.sh
PYTHON := $(CLEAN) .venv/bin/python
PYTEST := $(PYTHON) -m pytest
SIDE_BY_SIDE := --numprocesses 3 --no-loadscope-reorder # see tests/conftest.py

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: ## Install what a build host needs: Debian packages and .venv
	@$(CLEAN) factory/setup.sh

setup-ami: # only what `make ami` needs, without root, on Linux and macOS
	@$(CLEAN) factory/setup.sh ami

image: setup ## Build the local disk image: build/preheat-VERSION.raw and .qcow2
	@$(PYTHON) -m factory image

demo: setup ## Build the image, boot it, transcribe a sample on it over ssh
	@$(PYTHON) -m factory demo

ami: setup-ami ## Build an AMI on a GPU instance of EC2, copy and share it
	@$(PYTHON) -m factory ami

ami-clean: setup-ami ## List builders and AMIs in every region; with REMOVE=yes remove old AMIs
	@$(PYTHON) -m factory ami-clean

fleet: setup-ami ## Create the fleet on AWS, or change it: transcribes what is uploaded to S3
	@$(PYTHON) -m factory fleet

fleet-status: setup-ami ## Show the fleet: queue, instances, last jobs, failures
	@$(PYTHON) -m factory fleet-status

fleet-remove: setup-ami ## Delete the fleet; recordings and transcripts stay
	@$(PYTHON) -m factory fleet-remove

ssh: setup ## Boot the image on a temporary overlay and open a shell on it
	@$(PYTHON) -m factory ssh

test: setup lint image ## Everything: lint, docs, runtime, roles, image, AMI, fleet
	@$(PYTEST) $(SIDE_BY_SIDE) tests/ami tests/image tests/roles tests/runtime tests/fleet tests/test_*.py

test-fast: setup lint ## Lint and the tests of docs and runtime, in about ten minutes
	@$(PYTEST) tests/test_*.py tests/runtime

test-slow: setup ## Slow tests: the real driver, many more kills and orders
	@$(PYTEST) $(SIDE_BY_SIDE) -m slow tests

test-runtime: setup ## Tests of what runs on the image
	@$(PYTEST) tests/runtime

test-roles: setup ## Tests of the Ansible roles, each in a container of its own
	@$(PYTEST) tests/roles

test-ami: image ## Tests of make ami, against a mock of AWS
	@$(PYTEST) tests/ami

test-image: image ## Tests of the finished image: boots it and checks it over ssh
	@$(PYTEST) tests/image

lint: setup ## ruff, mypy, shellcheck, yamllint, ansible-lint, packer
	@$(CLEAN) tests/lint.sh

docs: setup ## Update the generated tables of docs/
	@$(PYTHON) -m factory docs

lock: setup ## Update the lock files from pyproject.toml
	@$(CLEAN) factory/lock.sh

clean: ## Remove build/ and the role tests' containers and images
	@$(CLEAN) python3 -m factory.clean
