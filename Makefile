# Each interpreter has environments of its own, so that switching builds nothing anew.
PYTHON ?= python3
suffix := $(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
VENV := .venv$(suffix)
DEMO_VENV := examples/.venv$(suffix)

package := packages/robotni
entries := $(package)/robotni_huey
config := $(package)/pyproject.toml
tests := $(package)/robotni/tests
pytest = EXAMPLES_VENV=$(abspath $(DEMO_VENV)) $(VENV)/bin/python -m pytest
parallel := --numprocesses 4 --dist loadfile # a test mostly waits; tests of a file share a server
pip = bin/python -m pip install -q --disable-pip-version-check

# An interpreter by its name: from PATH, else of pyenv, whose shims may point nowhere.
find = $(shell for python in $1 $${PYENV_ROOT:-$$HOME/.pyenv}/versions/*/bin/$1; do \
	if $$python -c '' 2>/dev/null; then command -v $$python; break; fi; done)
pythons = $(foreach minor,8 9 10 11 12 13 14 15,$(call find,python3.$(minor)))

help:
	@echo 'make demo    run a real script in its own virtual environment over HTTP'
	@echo 'make serve   web server and, on demand, the worker; Ctrl-C stops both'
	@echo 'make test    unit and integration tests; ARGS="-k word" for a part of them'
	@echo 'make test-all   all tests: also browser, packaging and, in short form, chaos'
	@echo 'make lint    format, lint, types, architecture'
	@echo 'make bench   robotni and its peers, measured side by side; ROWS=jobs,api for a part'
	@echo 'make check   lint, then the tests on the oldest and the newest Python found'
	@echo 'make docs    the documentation as a site, in site/'
	@echo 'make reference   writes what the docs say of the code from the code'
	@echo 'make nextjs  the Next.js example: types, compiler, its tests against a real server'
	@echo 'make chaos   1,000 kills of a server of its own, and the torture tests in full'
	@echo 'make clean   remove environments, caches and builds; never data'
	@echo 'PYTHON=python3.8 make … picks the interpreter'

demo: $(VENV)/.for-use $(DEMO_VENV)/.for-use
	$(VENV)/bin/robotni demo examples/report.py --venv $(DEMO_VENV)

serve: $(VENV)/.for-use
	$(VENV)/bin/robotni serve

test: $(VENV)/.for-test $(DEMO_VENV)/.for-use
	$(pytest) $(parallel) $(tests)/unit $(tests)/integration $(ARGS)

test-all: $(VENV)/.for-test $(DEMO_VENV)/.for-use
	$(pytest) $(parallel) $(tests) $(ARGS)

lint: $(VENV)/.for-dev
	$(VENV)/bin/ruff format --check --config $(config) .
	$(VENV)/bin/ruff check --config $(config) .
	cd $(package) && $(abspath $(VENV))/bin/python -m mypy
	$(VENV)/bin/python -m pytest -q $(tests)/unit/test_architecture.py

bench: $(VENV)/.for-fast $(DEMO_VENV)/.for-use
	EXAMPLES_VENV=$(abspath $(DEMO_VENV)) $(VENV)/bin/python bench/run.py $(if $(ROWS),--only $(ROWS)) $(ARGS)

check: lint
	$(MAKE) --no-print-directory test PYTHON=$(firstword $(pythons))
	$(MAKE) --no-print-directory test PYTHON=$(lastword $(pythons))

docs: $(VENV)/.for-docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict
	$(VENV)/bin/python tools/check_site.py site

reference: $(VENV)/.for-use
	$(VENV)/bin/python tools/reference.py

nextjs: $(VENV)/.for-test
	REQUIRE_NODE=1 $(VENV)/bin/python -m pytest $(tests)/packaging/test_nextjs.py $(ARGS)

chaos: $(VENV)/.for-test
	$(VENV)/bin/python -m robotni.tests.chaos --seconds 7200 --kills 1000
	ROUNDS=50 $(VENV)/bin/python -m pytest -s $(tests)/chaos

pythons:
	@printf '%s\n' $(pythons)

clean:
	rm -rf .venv .venv-* examples/.venv examples/.venv-* bench/.venv-* bench/.work
	rm -rf site examples/nextjs/node_modules examples/nextjs/build
	rm -rf $(package)/build $(package)/dist $(entries)/build $(entries)/dist
	find . -name .robotni -prune -o '(' -name __pycache__ -o -name '.*_cache' -o -name .hypothesis \
		-o -name '*.egg-info' ')' -prune -exec rm -rf {} +

$(VENV)/.for-use: $(VENV)/bin/python $(config) $(entries)/pyproject.toml $(entries)/hatch_build.py
	@echo 'installing robotni into $(VENV)'
	@$(VENV)/$(pip) -e $(entries)
	@touch $@

$(VENV)/.for-test $(VENV)/.for-fast $(VENV)/.for-dev $(VENV)/.for-docs: $(VENV)/.for-%: $(VENV)/.for-use
	@echo 'installing the $* extra into $(VENV)'
	@$(VENV)/$(pip) -e '$(package)[$*]'
	@touch $@

$(DEMO_VENV)/.for-use: $(DEMO_VENV)/bin/python examples/requirements.txt
	@echo 'installing what the examples need into $(DEMO_VENV)'
	@$(DEMO_VENV)/$(pip) -r examples/requirements.txt
	@touch $@

# Where the interpreter is gone (upgraded, say), nothing that was installed counts.
$(foreach env,$(VENV) $(DEMO_VENV),$(shell test -x $(env)/bin/python || rm -f $(env)/.for-*))

$(VENV)/bin/python $(DEMO_VENV)/bin/python: %/bin/python:
	@test -n '$(call find,$(PYTHON))' || { echo '$(PYTHON): no such interpreter' >&2; exit 1; }
	@$(call find,$(PYTHON)) -m venv --clear $* || { rm -rf $*; \
		echo '$(PYTHON) makes no virtual environments; on Debian and Ubuntu: apt install python3-venv' >&2; \
		exit 1; }

.PHONY: help demo serve test test-all bench lint check docs reference nextjs chaos pythons clean
