# SPDX-License-Identifier: MIT
# `make` alone says what there is. Everything is made in .venv and build.

# Which Python .venv is made with: 3.11 or later.
HOST_PYTHON ?= python3
VENV := .venv
# `make build PYTHON=python3.9`: a smaller box, for devices with that version of Python alone.
ifeq ($(origin PYTHON),command line)
FOR_ONE := --python $(PYTHON)
endif
STAMP := $(VENV)/.stamp
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
# For all versions of Python from the oldest that is supported, and all platforms.
COMPILE := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-annotate --custom-compile-command 'make lock' pyproject.toml
SOURCES := build_zipapp.py LICENSE $(shell find toolkit -name '*.py')

help: ## say what can be made
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

venv: $(STAMP) ## make the virtual environment with all that is needed

# Exactly what was tested, or nothing: every package is in the lock file with its hashes, setuptools
# for the build included. A .venv that another Python has begun is thrown away.
$(STAMP): pyproject.toml requirements/dev.txt
	@$(HOST_PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo 'make: $(HOST_PYTHON) is not Python 3.11 or later; name one that is: make HOST_PYTHON=python3.12' >&2; exit 1; }
	$(HOST_PYTHON) -m venv --clear $(VENV)
	$(PIP) --require-hashes --only-binary :all: --requirement requirements/dev.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# The versions that are locked already stay, where they still fit.
lock: $(STAMP) ## lock what pyproject.toml has come to ask for, requirements/*.txt
	$(COMPILE) --output-file requirements/run.txt
	$(COMPILE) --extra dev --constraint requirements/run.txt --output-file requirements/dev.txt

upgrade: $(STAMP) ## lock the newest version of everything
	$(COMPILE) --upgrade --output-file requirements/run.txt
	$(COMPILE) --upgrade --extra dev --constraint requirements/run.txt --output-file requirements/dev.txt

build: build/lavabox ## build the box for the devices, build/lavabox; with PYTHON=python3.9 for that one alone

build/lavabox: $(STAMP) $(SOURCES) build/.options
	$(VENV)/bin/python build_zipapp.py -o $@ $(FOR_ONE)

host: $(STAMP) ## build the host's lavabox as one file, build/lavabox-host
	$(VENV)/bin/python build_zipapp.py --host

# Changes with the options, so that a box which was built with others is built again.
build/.options: FORCE
	@mkdir -p build
	@echo '$(FOR_ONE)' | cmp -s - $@ || echo '$(FOR_ONE)' >$@

demo: build ## run a test on three simulated devices, and draw it
	$(VENV)/bin/lavabox sim --flow build/flow.html --role server=examples/flow-table/run-server.sh --role client=examples/flow-table/run-client.sh --role observer=examples/flow-table/run-observer.sh
	@echo "Who waited for whom, to look at in a browser: build/flow.html"

test: $(STAMP) ## run all tests
	$(VENV)/bin/python -m pytest --numprocesses=4 --dist worksteal $(PYTEST_ARGUMENTS)

check: $(STAMP) ## lint, format, types and tests
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest --numprocesses=4 --dist worksteal $(PYTEST_ARGUMENTS)

bench: build ## measure what the documents state; SECTIONS="console wire" for a part
	$(VENV)/bin/python -m bench --documents $(SECTIONS)

picture: build ## take the picture of a lab's page in the README
	$(VENV)/bin/python -m bench.labpicture

reliability: build ## count what becomes of commands on bad lines, for docs/reliability.md
	$(VENV)/bin/python -m bench.reliability

soak: $(STAMP) ## run the fault model for a million exchanges, on all cores
	$(VENV)/bin/python tests/soak.py

fuzz: $(STAMP) ## fuzz what parses bytes from the line
	$(PIP) --editable '.[fuzz]'
	$(VENV)/bin/python tests/fuzz.py

test-kernel: $(STAMP) ## two guests with a real kernel in qemu
	$(VENV)/bin/python -m tests.kernel

test-cluster: build ## three servers, four dispatchers, twenty devices, and faults
	$(VENV)/bin/python -m tests.cluster

clean: ## remove what was made
	rm -rf $(VENV) build *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: FORCE help venv lock upgrade build host demo test check bench picture reliability soak fuzz test-kernel test-cluster clean
