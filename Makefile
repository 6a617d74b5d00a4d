# Everything runs from .venv, which `make setup` fills from PyPI; nothing else is needed but Python 3.11+.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
STUDIO := .venv/.studio

CLIENTS := .venv-clients/latest/.ready .venv-clients/openai2/.ready

.PHONY: setup serve test test-long test-clients check bench conformance chaos storm hold loop soak prices providers clean
setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

$(STUDIO): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,studio]'
	@touch $(STUDIO)

serve: setup        ## start the gateway on 127.0.0.1:1726 (first run fetches the default weights)
	$(BIN)/lilliput serve $(ARGS)

test: $(STUDIO)     ## every test but those of other people's clients and the few that take minutes each
	$(BIN)/python -m pytest -m 'not long' -n 2 --dist loadfile --ignore=tests/clients $(ARGS)

test-long: $(STUDIO) ## those: the whole demonstration, with a model trained
	$(BIN)/python -m pytest -m long $(ARGS)

test-clients: setup $(CLIENTS)  ## other people's SDKs and frameworks, Python and Node, against a running gateway
	$(BIN)/python -m pytest tests/clients $(ARGS)

.venv-clients/%/.ready: tests/clients/requirements-%.txt
	$(PYTHON) -m venv .venv-clients/$*
	.venv-clients/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	@touch $@

check: $(STUDIO)    ## the gate before a commit: format, lint, types, house rules, fast tests; under a minute
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m 'not slow and not long' -n 2 --ignore=tests/clients $(ARGS)

bench: setup        ## the quick benchmark: gateway, nginx and direct side by side, under 3 minutes
	$(BIN)/python -m benchmarks $(ARGS)

conformance: setup  ## recorded provider traffic through a running gateway: make conformance RECORDINGS=dir
	$(BIN)/python -m tests.conformance $(RECORDINGS) $(ARGS)

chaos: setup        ## a lying provider behind the gateway, and what its callers are told
	$(BIN)/lilliput chaos --every-byte $(ARGS)

storm: setup        ## providers that refuse, die, flap and come back: what reaches them, what callers see
	$(BIN)/python -m benchmarks.storm $(ARGS)

hold: setup         ## a thousand streams held for ten minutes, and five hundred callers that dawdle beside them
	$(BIN)/python -m benchmarks.streams $(ARGS)

loop: $(STUDIO)     ## students for four public tasks against their bars: make loop ARGS='--quick --task debian'
	$(BIN)/python -m benchmarks.loop $(ARGS)

soak: setup         ## fifty kills on every store, and what is missing; a hundred races; a million hostile requests
	$(BIN)/python scripts/soak.py $(ARGS)
	$(BIN)/python scripts/hostile.py

prices: setup       ## make the model snapshot anew from genai-prices
	$(BIN)/python scripts/prices.py

providers: setup    ## make docs/providers.md anew, after a change to a row or to what a dialect supports
	$(BIN)/python scripts/providers_page.py

clean:
	rm -rf .venv .venv-clients build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis benchmarks/work
