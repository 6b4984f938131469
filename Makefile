# Two commands matter: `make demo` and `make test`. Both install what they need; a repeat does no needless work.

PYTHON ?= python3
VENV ?= .venv
# CPU build where an index or cache offers one, CUDA build elsewhere; hence pinned by version, not by hash.
TORCH := torch==2.13.0
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALLED := $(VENV)/.installed

.PHONY: help install demo up test check bench faults lock clean

help:
	@echo "make demo   install, run the whole pipeline on a simulated market, print what happened"
	@echo "make up     PostgreSQL, Dagster's UI and daemon on http://127.0.0.1:3000 (ctrl-c stops them)"
	@echo "make test   install, run every test with coverage"
	@echo "make check  lint, types, import contracts"
	@echo "make bench  measured comparisons, see docs/benchmarks.md"
	@echo "make faults every crash, race and restart of docs/reliability.md: hours, goes on where it was cut off"
	@echo "make lock   resolve constraints.txt again"
	@echo "make clean  remove .venv, caches and the state under .tft (asks first)"

$(INSTALLED): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Say which: make PYTHON=python3.12 demo")'
	@echo "Installing into $(VENV) (first time: some minutes, mostly torch) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install "$(TORCH)"
	@$(PIP) install --require-hashes --no-deps -r constraints.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

install: $(INSTALLED)

# As root, the first start of the private PostgreSQL makes a system user `pgserver` and gives the folders above TFT_HOME and above
# $(VENV) search permission (o+x): PostgreSQL refuses to run as root (README, "Settings"). As any other user it changes nothing.
demo: $(INSTALLED)
	@$(BIN)/tft-pipeline demo

up: $(INSTALLED)
	@exec $(BIN)/tft-pipeline up

test: $(INSTALLED)
	@$(BIN)/python -m pytest -n 2 --cov --cov-report=term --cov-fail-under=90

check: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(INSTALLED)
	@$(BIN)/python -m benchmarks

faults: $(INSTALLED)
	@$(BIN)/python -m tft_pipeline_tests.faults --lane 0/2 & other=$$!; \
	$(BIN)/python -m tft_pipeline_tests.faults --lane 1/2; status=$$?; wait $$other || status=1; \
	$(BIN)/python -m tft_pipeline_tests.faults --report; exit $$status

lock:
	@$(PYTHON) scripts/lock.py

clean:
	@printf 'Remove %s, caches and .tft with its database? [y/N] ' "$(VENV)"; read answer; test "$$answer" = y
	@test ! -x $(BIN)/tft-pipeline || $(BIN)/tft-pipeline down || true
	rm -rf $(VENV) .tft .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage* dist build
