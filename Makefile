# `make demo` and `make test` do all the set-up on a machine that has only Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
# Spinning threads are 1.6 times faster where the machine is ours (the demo), and far slower where it is shared (tests).
quick slow: export OMP_WAIT_POLICY := passive
# As many tests side by side as there are cores, with a thread each.
quick: export OMP_NUM_THREADS := 1

.PHONY: demo test lint types quick slow wheel docs clean

demo: $(STAMP)
	$(BIN)/semipose demo --out runs/demo

test: lint types quick wheel docs

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check --quiet

types: $(STAMP)
	$(BIN)/mypy

quick: $(STAMP)
	$(BIN)/python -m pytest -q -n auto --dist loadfile --durations=10

slow: $(STAMP)
	$(BIN)/python -m pytest -q -m slow

# Builds the wheel, puts it alone into an empty folder and uses it from there, beside the installed dependencies.
wheel: $(STAMP)
	rm -rf build && mkdir build
	$(BIN)/python -m build --wheel --no-isolation --outdir build/wheel > build/wheel.log || (cat build/wheel.log; exit 1)
	$(BIN)/python -m pip install -q --no-deps --target build/installed build/wheel/*.whl
	cd build/installed && test -f semipose/py.typed && PYTHONPATH=. ../../$(BIN)/python -c \
	  'import semipose, sys; assert semipose.__file__.startswith(sys.argv[1]), semipose.__file__' "$$PWD"
	cd build/installed && for part in report/templates/page.html.jinja report/templates/style.css \
	  comparison/templates/comparison.html.jinja; do test -f semipose/$$part || exit 1; done
	cd build/installed && PYTHONPATH=. ../../$(BIN)/python bin/semipose methods > /dev/null

# The site, in site/; a broken link, a missing page or an unknown name in the API reference is an error.
docs: $(STAMP)
	$(BIN)/zensical build --clean --strict

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "semipose needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test,dev,export,timm,cluster,docs]'
	touch $@

clean:
	rm -rf $(VENV) build dist site .cache
