# make demo | test | slow | lint | docs | install     (all set up .venv first)
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: install demo test slow lint docs speed constraints clean
install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[offline,video,medical,dev]'
	touch $@

demo: install
	$(BIN)/medley bench demo

test: install
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m 'not slow'

slow: install
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m pytest -n 2 -m 'hypothesis and not slow' --hypothesis-profile search

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# The pages of docs/ as a site in site/; warnings are errors.
docs: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

speed: install
	$(BIN)/python -m benchmarks.speed.stream_step
	$(BIN)/python -m benchmarks.speed.tracking_overhead
	$(BIN)/python -m benchmarks.speed.grid
	$(BIN)/python -m benchmarks.speed.stream_memory
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.stream_whole
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.front_end
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.towers
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.finetune
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.predict
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.seq2seq
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.compose
	$(BIN)/python -m benchmarks.speed.loader
	$(BIN)/python -m benchmarks.speed.embedding_cache
	$(BIN)/python -m benchmarks.speed.manifest_memory
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.manifest_scale
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.signal_cache
	$(BIN)/python -m benchmarks.speed.objectives
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.objectives --every
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.online_step
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed.dropkey

# Pins for every platform and Python that we support; run after changing dependencies.
constraints: install
	$(BIN)/uv pip compile --universal --python-version 3.11 --no-annotate --no-header \
		--no-emit-index-url --no-emit-find-links --extra offline --extra video --extra medical \
		--extra dev --extra ray --extra slurm --extra docs -P torchvision==0.29.1 pyproject.toml -o constraints.txt

clean:
	rm -rf $(VENV) runs site .pytest_cache .ruff_cache .hypothesis
