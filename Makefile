# make repro   set everything up and run the pipeline
# make test    set everything up and run the tests, in both interpreters
# make setup   only set up; TF_BUILD=intel|stock|tf2 chooses the TensorFlow build
# make lock    pin anew what the requirements/*.in files ask for

# The first that runs: a name on the PATH may be pyenv's mere hint at a version that is not active.
PYTHON ?= $(shell for name in python3.12 python3.11 python3; do $$name -c '' 2>/dev/null && echo $$name && break; done)

.PHONY: repro test setup lint lock

repro: setup
	@stages/py stages/check.py
	@stages/py -m dvc repro

setup:
	@$(PYTHON) requirements/install.py $(if $(TF_BUILD),--build $(TF_BUILD))

test:
	@$(PYTHON) requirements/install.py --tests $(if $(TF_BUILD),--build $(TF_BUILD))
	@stages/py -m ruff check .
	@stages/py -m pytest tests
	@stages/tf -m pytest tests/tf

lock:
	@$(PYTHON) requirements/lock.py
