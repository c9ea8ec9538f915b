# SPDX-License-Identifier: Apache-2.0
# Everything a fresh Debian 12 needs, from nothing but python3, make and apt; as root.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Everything here starts many short processes: what they import is compiled once, not by each.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
PYTHON := $(VENV)/bin/python
BASE_PYTHON ?= python3
READY := $(VENV)/.ready
PACKAGES := openvswitch-switch iproute2 iputils-ping util-linux dnsmasq-base busybox-static isc-dhcp-client \
	tcpdump shellcheck netcat-openbsd zsh ca-certificates qemu-system-x86 cpio libfaketime keepalived
WORKERS ?= 2
SHELL_FILES := .ci/run tests/faults/shifted/bin/ovsdb-server devstack/guest-kernel.sh devstack/plugin.sh devstack/settings $(wildcard devstack/lab/*.sh)

.PHONY: help setup demo lab lab-down test soak soak-moves soak-api mutants clients bench lint clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## install Debian packages, and sgctl into .venv

# Services of the packages are not started: the lab runs its own Open vSwitch.
$(READY): Makefile setup.cfg setup.py devstack/install-packages.sh devstack/make-venv.sh devstack/guest-kernel.sh
	devstack/install-packages.sh $(PACKAGES)
	devstack/make-venv.sh $(BASE_PYTHON) $(VENV)
	devstack/guest-kernel.sh $(VENV)/guest
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -e '.[test,lint]'
	touch $@

demo: setup  ## two hypervisors, two pods, real traffic: who reaches whom
	$(PYTHON) -m devstack.demo

lab: setup  ## the demo's cloud, left running
	$(PYTHON) -m devstack.lab up

lab-down: setup  ## remove it
	$(PYTHON) -m devstack.lab down

test: setup  ## all tests (WORKERS=2 at a time)
	$(PYTHON) -m pytest -n $(WORKERS) --dist loadfile

soak: setup  ## random faults under traffic (SEED=…, MINUTES=10)
	$(PYTHON) -m tests.faults $(if $(SEED),--seed $(SEED)) --minutes $(or $(MINUTES),10)

soak-moves: setup  ## VMs move about under traffic while things go wrong (SEED=…, MOVES=50)
	$(PYTHON) -m tests.faults.movesoak $(if $(SEED),--seed $(SEED)) --moves $(or $(MOVES),50)

soak-api: setup  ## a hundred thousand API requests, honest and hostile (REQUESTS=…, SEED=…)
	$(PYTHON) -W ignore -m tests.functional.api_soak $(or $(REQUESTS),100000) $(or $(SEED),1)

mutants: setup  ## do the unit tests notice deliberate bugs in flows, policy and reconciliation?
	$(PYTHON) -m tests.mutants

clients: setup  ## the API tried by other people's clients, Ansible among them (downloads it)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -e '.[test,clients]'
	$(PYTHON) -m pytest -m "clients or not clients" tests/functional/test_api_clients.py

bench: setup  ## how fast it is, beside its peers where they are installed: tests/bench/README.md
	$(PYTHON) -W ignore -m tests.bench --peer installed
	$(PYTHON) -W ignore -m tests.bench.wire
	$(PYTHON) -W ignore -m tests.bench.bench_api

lint: setup  ## ruff, mypy, shellcheck
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy devstack
	shellcheck $(SHELL_FILES)

clean:  ## remove what was built, and a running lab
	[ ! -x $(PYTHON) ] || $(PYTHON) -m devstack.lab down
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .lab
