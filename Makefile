# make demo      from a bare machine to a log-in       make test         all tests
# make install   packages, users, /opt/nephos          make lint         ruff and mypy
# make bench     the numbers                           make bench-check  fails when a promised number is missed
# make conformance  OpenStack's own tests              make soak         fuzzing, tenants attack each other, hours of mixed load
# make nested    the switches under a kernel that has VLAN, GRE, Geneve and Open vSwitch; emulated, half an hour

# the system's own interpreter when there is one; any other only bootstraps
PYTHON := $(firstword $(wildcard /usr/bin/python3) python3)
# what make bench, soak and pytest get besides their defaults
ARGS ?=

.PHONY: help install test-env demo test lint bench bench-check conformance soak nested

help:
	@sed -n '1,/^$$/s/^# //p' Makefile

install:
	@$(PYTHON) scripts/install.py

test-env:
	@$(PYTHON) scripts/install.py --tests

demo: install
	@./nephos demo $(ARGS)

# what touches a host runs alone, after the rest has used both cores
test: test-env
	.venv/bin/python -m pytest -m "not host" -n 2 --dist loadfile $(ARGS)
	.venv/bin/python -m pytest -m host $(ARGS)

lint: test-env
	.venv/bin/ruff check
	.venv/bin/mypy
	MYPYPATH=scripts .venv/bin/mypy scripts/install.py scripts/installer

bench: test-env
	.venv/bin/python bench/run.py $(ARGS)

bench-check: test-env
	.venv/bin/python bench/run.py --check $(ARGS)

conformance: test-env
	scripts/conformance.sh $(ARGS)

nested: test-env
	.venv/bin/python tests/nested/run.py $(ARGS)

soak: test-env
	.venv/bin/python bench/fuzz.py --minutes 10
	.venv/bin/python bench/wiring.py start
	.venv/bin/python bench/people.py --check
	.venv/bin/python bench/isolation.py
	.venv/bin/python bench/isolation.py --switch openvswitch
	.venv/bin/python bench/cards.py
	.venv/bin/python bench/soak.py $(ARGS)
	.venv/bin/python bench/throughput.py --check
