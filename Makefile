# make search   a real search on drawn birds, nothing needed
# make test     lint, types, import contracts and every test
.PHONY: help setup search check test docs golden chaos postgresql chromium
PY := .venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help:  ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' Makefile | expand -t 14

setup: .venv/installed  ## .venv with fgsearch in it (about 3 minutes the first time)

.venv/installed: pyproject.toml
	@test -x $(PY) || python3 -m venv .venv
	@echo "installing into .venv (about 3 minutes the first time) ..."
	@$(PY) -m pip install --quiet --editable '.[dev]' 2>&1 | grep -v '^WARNING: Location' || true
	@.venv/bin/fgsearch --version && touch $@

search: setup  ## search the hyperparameters on drawn finches: no data, no download, no GPU
	@.venv/bin/fgsearch launch spaces/finches.yaml

docs: setup  ## these pages, in docs/_build/html
	@$(PY) -m sphinx -W --keep-going -q docs docs/_build/html
	@echo "docs/_build/html/index.html"

golden: setup  ## what every shipped space comes to, in tests/golden: after a default was changed on purpose
	@$(PY) -m tests.golden
	@git --no-pager diff --stat -- tests/golden

check: setup  ## lint, types, import contracts and the tests that take no time
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@.venv/bin/pytest -q -n 2 --dist loadfile -m 'not slow'

postgresql:  # for the tests of the services: installed where that may be done, else they skip
	@ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || command -v initdb > /dev/null || { \
	  test "$$(id -u)" = 0 && command -v apt-get > /dev/null && echo "installing postgresql ..." && apt-get -qq update && \
	  DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends postgresql > /dev/null; } || \
	  echo "no PostgreSQL, and none can be installed: its tests are skipped"

chromium:  # for the tests of what MLflow's pages show, likewise
	@command -v chromium chromium-browser google-chrome > /dev/null || { \
	  test "$$(id -u)" = 0 && command -v apt-get > /dev/null && echo "installing chromium ..." && apt-get -qq update && \
	  DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends chromium > /dev/null; } || \
	  echo "no Chromium, and none can be installed: MLflow's pages are not looked at"

test: setup postgresql chromium  ## everything
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@.venv/bin/pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations=25

CHAOS := --rounds 4 --seed 0 --log chaos.jsonl
chaos: setup postgresql  ## searches on a cluster with services, killed and stopped at random moments: an hour or two
	@.venv/bin/python -m tests.chaos $(CHAOS)
