# The one door to this repository. `make help` explains; everything else needs no reading of other files.
# Variables: YES=1 lets targets install missing Debian packages (as root). DIFFUSION_CACHE moves the cache
# (default ~/.cache/diffusion-operator). SUITE=… picks a suite of `make test-full`. ARGS=… is passed to pytest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Bytecode is kept in the cache, not in the tree: without any, a rank starts in 11 CPU seconds instead of 5.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(or $(DIFFUSION_CACHE),$(HOME)/.cache/diffusion-operator)/bytecode

tools = bin=$$(bash tests/localcluster/bootstrap.sh) && export PATH="$$bin:$$PATH"
local = $(tools) && PYTHONPATH=tests "$$bin/python" -m localcluster
venv = .venv/bin
pytest = $(tools) && $(venv)/python -m pytest $(ARGS)

.PHONY: help setup generate planner-table planner-speed bench-gpu gpu-table check test test-unit test-engine test-wire test-apiserver test-cluster test-gpu test-full \
        cluster cluster-down images demo demo-down clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv with everything that tests and checks need (about 6 GB)
	@$(tools) && uv sync --frozen --quiet

generate: setup ## Write what is generated: crds/, the chart's copies, the reference page
	@$(venv)/python -m diffusion_operator.api.generate

planner-table: setup ## Write docs/results/planner-vs-measured.md: predictions beside measurements
	@PYTHONPATH=tests $(venv)/python -m measured.table

planner-speed: setup ## Time one plan, and 1,000 deployments against 1,000 nodes; fails over the limits
	@PYTHONPATH=tests $(venv)/python -m benchmarks.planner

bench-gpu: setup ## One row on this machine's GPU: make bench-gpu ROW=forward ARGS="--model …"
	@PYTHONPATH=tests $(venv)/python -m benchmarks.gpu $(ROW) $(ARGS)

gpu-table: setup ## Write docs/results/engine-on-gpus.md from the row files
	@PYTHONPATH=tests $(venv)/python -m benchmarks.gpu.table

check: setup ## Lint, types, import layers, generated files, chart
	@$(venv)/ruff check .
	@$(venv)/mypy
	@MYPYPATH=tests $(venv)/mypy -p localcluster -p cluster -p apiserver
	@$(venv)/lint-imports
	@$(venv)/python -m diffusion_operator.api.generate --check
	@PYTHONPATH=tests $(venv)/python -m builders.result_files
	@PYTHONPATH=tests $(venv)/python -m benchmarks.gpu.table --check
	@$(local) lint-chart

test: check ## What CI runs: check, then all folders of tests below
	@$(local) prepare
	@# Engine tests compute on one core, cluster tests mostly wait: together they take as long as the longer.
	@$(tools) && $(venv)/python tests/builders/side_by_side.py \
	  tests/engine,tests/apiserver tests/unit,tests/wire,tests/cluster -- $(ARGS)

test-unit: setup ## Pure functions, rendered manifests, the chart
	@$(local) unit-tools
	@$(pytest) tests/unit

test-engine: setup ## The engine on the CPU, with small random weights
	@$(pytest) tests/engine

test-wire: setup ## The operator's client against a faulty API server
	@$(pytest) tests/wire

test-apiserver: setup ## The operator against a real API server without a node
	@$(local) prepare
	@$(pytest) tests/apiserver

test-cluster: setup ## The real thing: kind cluster, Helm install, apply, pictures, faults
	@$(local) prepare
	@$(pytest) tests/cluster

test-gpu: setup ## Every layout on the GPUs of this machine, against one plain GPU
	@$(pytest) -s tests/gpu

test-full: setup ## A whole matrix: make test-full SUITE=… (tests/full/<suite>)
	@if [[ -z "$(SUITE)" || ! -d "tests/full/$(SUITE)" ]]; then \
	  echo "error: SUITE=$(SUITE) is not a suite; there are: $$(ls tests/full 2>/dev/null | tr '\n' ' ')" >&2; exit 2; fi
	@$(pytest) tests/full/$(SUITE)

cluster: ## Start (or reuse) the local cluster of the demo, with GPU nodes
	@$(local) up

cluster-down: ## Delete it; what was built stays in the cache
	@$(local) down

images: ## Build the operator image and the engine image, and print their names
	@$(local) images

demo: ## From nothing to a picture: cluster, images, Helm, kubectl apply, out/demo.png
	@$(local) demo

demo-down: ## Remove the demo and the product from the cluster; the cluster stays
	@$(local) demo-down

clean: ## Delete both local clusters, the images and the cache folder
	@$(local) clean
