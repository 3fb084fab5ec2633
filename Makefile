# Everything happens in a virtual environment here; nothing else on the machine is touched.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test test-fast test-plain test-by-epoch lint docs screenshots bench clean

demo: $(VENV)/installed
	$(BIN)/python examples/demo.py

# Two processes share the tests; those that measure time, or want the machine for themselves (the marker `alone`), run
# after that in one. A file is never cut: its servers and compiled programs are made once. Real servers and deadlines on
# a busy machine fail now and then: what has failed is run once more by itself, and both are printed.
once_more = (echo "What has failed is run once more by itself." && \
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none $(1))
two_then_one = \
	($(BIN)/python -m pytest -n 2 --dist loadfile -m "not alone" $(1) || $(call once_more,$(1))) && \
	($(BIN)/python -m pytest -m alone $(1) || $(call once_more,$(1)))
# The stores know no guest, and the others try both ways themselves.
OF_GUESTS = --ignore=tests/fs_backends --ignore=tests/storage --ignore=tests/fuzz --ignore=tests/typing --ignore=tests/observe \
	--ignore=tests/pytest_plugin --ignore=tests/programs/test_hermetic_programs.py

# What is quick in each room.
FAST = tests/test_architecture.py $(addprefix tests/,cli/test_output.py components/test_adapted.py docs/test_trust_page.py \
	engine/test_exposing.py fast_path/test_arguments.py fs_backends/test_memory.py fs_backends/test_zip.py \
	host/test_bad_input.py isolation/test_travel.py kernel mounts/test_options.py semantics/test_path_open.py \
	sessions/test_calls.py storage/test_http.py threats/test_rights.py programs/test_guest_programs.py)

test: $(VENV)/installed-test
	@echo "The whole test suite: some 20 minutes on two cores, and a few more when its programs are compiled for the first time."
	$(call two_then_one,)

# A file or two of each room, to know soon.
test-fast: $(VENV)/installed-test
	@echo "A file or two of each room: about a minute on two cores."
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not alone" $(FAST)

# The same tests the plain way: every system call is answered in Python, and guests are interrupted by epochs.
test-plain: $(VENV)/installed-test
	@echo "The tests of guests the plain way: some 10 minutes on two cores."
	VFSWASI_VDSO=0 VFSWASI_INTERRUPT=epoch; export VFSWASI_VDSO VFSWASI_INTERRUPT; \
	$(call two_then_one,$(OF_GUESTS) --ignore=tests/endurance)

# The fast path with interruption by epochs.
test-by-epoch: $(VENV)/installed-test
	@echo "The tests of guests with interruption by epochs: as long as make test-plain."
	VFSWASI_INTERRUPT=epoch; export VFSWASI_INTERRUPT; \
	$(call two_then_one,$(OF_GUESTS))

lint: $(VENV)/installed-test $(VENV)/installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/installed-docs
	$(BIN)/mkdocs build --strict --quiet

# The pictures in docs/report.md, of a report in a Chromium of the system's.
screenshots: $(VENV)/installed-test
	$(BIN)/python -m tests.report_screenshots

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
