# make repro   set everything up and run the pipeline
# make back    go back to the parameters and results of the last commit, after experiments; never trains
# make test    set everything up and run the tests, in both interpreters
# make test-slow   the tests that take long: sweeps of kills, damaged input and bad servers, and the mutation check
# make setup   only set up; TF_BUILD=intel|stock|tf2 chooses the TensorFlow build
# make setup-workers   add Horovod to TensorFlow 1.15, for runs with several workers; make test-workers runs such runs
# make bench   measure speed beside the peers', on a quiet machine; writes docs/speed.md; QUICK=1 is a trial
# make lock    pin what the requirements/*.in files ask for; UPGRADE=1 takes newer versions of what is pinned

# The first that runs: a name on the PATH may be pyenv's mere hint at a version that is not active.
PYTHON ?= $(shell for name in python3.12 python3.11 python3; do $$name -c '' 2>/dev/null && echo $$name && break; done)
PYTHON_FOUND = $(or $(PYTHON),$(error no Python on the PATH: install Python 3.11 or 3.12, or name one, `make PYTHON=/path/to/python3.11`))

.PHONY: repro back test test-slow setup lock bench setup-workers test-workers

repro: setup
	@stages/py stages/check.py
	@stages/py -m dvc repro

back:
	@stages/py -m covpool.pipeline.way_back

setup:
	@$(PYTHON_FOUND) requirements/install.py $(if $(TF_BUILD),--build $(TF_BUILD))
	@test -x .venv/bin/covpool || .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .

test:
	@$(PYTHON_FOUND) requirements/install.py --tests $(if $(TF_BUILD),--build $(TF_BUILD))
	@stages/py -m ruff check .
	@stages/py -m ruff format --check --quiet .
	@stages/py -m pytest tests
	@stages/tf -m pytest tests/tf

test-slow:
	@$(PYTHON_FOUND) requirements/install.py --tests $(if $(TF_BUILD),--build $(TF_BUILD))
	@stages/py -m pytest tests -m slow
	@stages/tf -m pytest tests/tf -m slow

setup-workers:
	@$(PYTHON_FOUND) requirements/workers.py $(if $(TF_BUILD),--build $(TF_BUILD))

test-workers:
	@$(PYTHON_FOUND) requirements/workers.py --tests $(if $(TF_BUILD),--build $(TF_BUILD))
	@stages/tf -m pytest tests/workers

lock:
	@$(PYTHON_FOUND) requirements/lock.py $(if $(UPGRADE),--upgrade)

bench:
	@$(PYTHON_FOUND) benchmarks/speed/environments.py
	@stages/py -m benchmarks.speed $(if $(QUICK),--quick)
