# Everything happens in a virtual environment here; nothing else on the machine is touched.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test test-plain test-by-epoch lint docs bench clean

demo: $(VENV)/installed
	$(BIN)/python examples/demo.py

test: $(VENV)/installed-test
	$(BIN)/python -m pytest

# The same tests the plain way: every system call is answered in Python, and guests are interrupted by epochs. Left out
# are those of the stores, which know no guest, and those that try both ways themselves. Two at once.
test-plain: $(VENV)/installed-test
	VFSWASI_VDSO=0 VFSWASI_INTERRUPT=epoch $(BIN)/python -m pytest -n 2 --dist loadfile --ignore=tests/fs_backends --ignore=tests/storage \
		--ignore=tests/endurance --ignore=tests/fuzz --ignore=tests/typing

# The fast path with interruption by epochs.
test-by-epoch: $(VENV)/installed-test
	VFSWASI_INTERRUPT=epoch $(BIN)/python -m pytest --ignore=tests/fs_backends --ignore=tests/storage --ignore=tests/fuzz --ignore=tests/typing

lint: $(VENV)/installed-test $(VENV)/installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/installed-docs
	$(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/installed-test
	$(BIN)/python benchmarks/run.py

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-%: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis site
