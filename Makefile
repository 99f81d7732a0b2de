# make demo    the whole loop on one machine, people simulated     make test    everything that must hold
SHELL := bash
BIN := .venv/bin
export ULTRALYTICS_SAFE_LOAD := 1

# make demo [SEED=0] [FOLDER=demo] [DATA=folder of labelled images] [MODEL=model.onnx|stub] [WEIGHTS=checkpoint.pt] [STRATEGY=expected_misses]
SEED ?= 0
FOLDER ?= demo
DEMO := --seed $(SEED) --folder $(FOLDER) $(if $(DATA),--data $(DATA)) $(if $(MODEL),--model $(MODEL)) $(if $(WEIGHTS),--weights $(WEIGHTS)) $(if $(STRATEGY),--strategy $(STRATEGY)) $(if $(QUICK),--quick)

.PHONY: help setup demo demo-base ui test test-fast soak lint bench bench-yield bench-retrain requirements clean

help:
	@grep -E '^# make' Makefile | cut -c3-

setup:
	@deployments/setup.sh

demo: setup
	@$(BIN)/edgeloop demo $(DEMO)

# make demo-base    train the small base checkpoint again that the demo starts from
demo-base: setup
	@$(BIN)/python -m flows.demo_base

# make ui [FOLDER=demo]    the FiftyOne App and the Prefect UI of a demo, on loopback
ui: setup
	@$(BIN)/edgeloop ui --folder $(FOLDER)

test: setup
	@deployments/test_packages.sh
	@$(BIN)/python -m pytest

# make test-fast    without the slow tests, on two cores
test-fast: setup
	@$(BIN)/python -m pytest -m "not slow" -q -n 2 --hypothesis-profile=new

# make soak    the long versions of the fault tests, hours; each prints the figure of its promise
soak: setup
	@deployments/test_packages.sh
	@$(BIN)/python -m pytest --soak tests/soak -s --timeout=0 --hypothesis-profile=new

# make lint    format, style, types and floors
lint: setup
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

# make bench    every benchmark, side by side in one run; RESULTS.md keeps what was printed
bench: setup
	@$(BIN)/python -m tests.benchmarks

# make bench-yield    200 orders of a stream: what each way of choosing frames finds; results go to RESULTS.md
bench-yield: setup
	@$(BIN)/python -m tests.benchmarks --only yield --write

# make bench-retrain    hours: live models retrained on what each way of choosing has labelled; goes on where it stopped
bench-retrain: setup
	@$(BIN)/python -m tests.benchmarks --only retrain --write

# make requirements [UPGRADE=1]    compile the pinned requirement files again
requirements: setup
	@requirements/compile.sh

clean:
	rm -rf .venv demo
