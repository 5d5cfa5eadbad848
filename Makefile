# make search   a real search on drawn birds, nothing needed
# make test     lint, types, import contracts and every test
.PHONY: help setup lock search check test docs golden tree chaos postgresql chromium
PY := .venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help:  ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' Makefile | expand -t 14

setup: .venv/installed  ## .venv with fgsearch in it (about 3 minutes the first time)

LOCKED := yes# `make setup LOCKED=no` installs the newest within pyproject.toml's ranges instead
.venv/installed: pyproject.toml $(wildcard constraints/*.txt)
	@test -x $(PY) || python3 -m venv .venv
	@echo "installing into .venv (about 3 minutes the first time) ..."
	@tested=constraints/py$$($(PY) -c 'import sys; print("%d%d" % sys.version_info[:2])').txt; \
	if test $(LOCKED) = yes -a -f $$tested; then echo "with the versions in $$tested"; \
	else without=$$tested; tested=/dev/null; echo "with the newest versions within pyproject.toml's ranges: $$without is not there, or not wanted"; fi; \
	$(PY) -m pip install --quiet --constraint $$tested --editable '.[dev]' 2> .venv/pip.log || { cat .venv/pip.log; exit 1; }
	@.venv/bin/fgsearch --version && touch $@

lock:  ## constraints/: the versions in .venv, once `make test` has passed with them, for `make setup` on each Python
	@at=$$(mktemp -d) && trap 'rm -r "$$at"' EXIT && $(PY) -m venv "$$at/uv" && "$$at/uv/bin/pip" install --quiet uv 2> /dev/null && \
	for version in 3.11 3.12; do \
	  lock="$$at/py$$(echo $$version | tr -d .).txt" && $(PY) -m pip list --format freeze --exclude-editable > "$$lock" && \
	  "$$at/uv/bin/uv" pip compile --quiet pyproject.toml --all-extras --universal --python-version $$version \
	    --no-annotate --no-header --no-emit-index-url --no-emit-find-links --output-file "$$lock" > /dev/null || exit 1; \
	done && mkdir -p constraints && cp "$$at"/py*.txt constraints/ && wc -l constraints/*.txt

search: setup  ## search the hyperparameters on drawn finches: no data, no download, no GPU
	@.venv/bin/fgsearch launch spaces/finches.yaml

docs: setup  ## these pages, in docs/_build/html
	@$(PY) -m sphinx -W --keep-going -q docs docs/_build/html
	@echo "docs/_build/html/index.html"

golden: setup  ## what every shipped space comes to, in tests/golden: after a default was changed on purpose
	@$(PY) -m tests.golden
	@git --no-pager diff --stat -- tests/golden

tree: setup  ## docs/tree.md: every module with its first sentence
	@$(PY) -m tests.docs.tree

check: setup  ## lint, types, import contracts and the tests that take no time
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@.venv/bin/pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m 'not slow'

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
