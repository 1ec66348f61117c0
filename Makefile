# make demo   set up what is needed (no torch) and prune the shipped trained model
# make test   set up the development environment; lint, type-check and run the tests
# make lint   the first half of that
# make exam   export the exam's models and judge the package on them (needs the exam's folder: EXAM=...)
# make venv   the development environment alone
# make clean  remove everything that the targets above made
#
# Variables: PYTHON (3.11 or newer), VENV, RUNTIME (cpu or gpu: the onnxruntime wheel), WORKERS, EXAM,
# EXAM_MODELS (names for the exam's zoo.py, such as tv:resnet18).

PYTHON ?= python3
VENV ?= .venv
RUNTIME ?= cpu
WORKERS ?= 2
EXAM ?= ../shared/exam
EXAM_VENV ?= .exam-venv
EXAM_MODELS ?= @tv

BIN := $(VENV)/bin
INSTALL := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
LIGHT := $(VENV)/.light-$(RUNTIME)
FULL := $(VENV)/.full-$(RUNTIME)

.PHONY: help demo test lint exam venv clean

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

demo: $(LIGHT)
	$(BIN)/python -m benchmarks.demo

test: lint
	$(BIN)/python -m pytest --numprocesses $(WORKERS)

lint: $(FULL)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

venv: $(FULL)

clean:
	rm -rf $(VENV) $(EXAM_VENV) build dist out .hypothesis .mypy_cache .pytest_cache .ruff_cache

# A stamp is younger than the files it was installed from, so that a second run installs nothing.
$(LIGHT) $(FULL): $(BIN)/python pyproject.toml constraints.txt

$(LIGHT):
	@echo "installing onnxprune and its dependencies in $(VENV) ..."
	$(BIN)/python $(INSTALL) '.[$(RUNTIME)]'
	@touch $@

$(FULL):
	@echo "installing onnxprune and its development tools in $(VENV) ..."
	$(BIN)/python $(INSTALL) '.[$(RUNTIME),dev]'
	@touch $(LIGHT) $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "onnxprune needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV) || { rm -f $@; echo "fix: install the venv module of $(PYTHON) (Debian: apt install python3-venv)" >&2; exit 1; }

# The exam's exporters and rivals live in an environment of their own; onnxprune joins them there, so that both
# sides of a comparison run in one process.
exam: build/zoo/.ready
	$(EXAM_VENV)/bin/python -m benchmarks.exam --exam $(EXAM) --zoo build/zoo

build/zoo/.ready: $(EXAM_VENV)/.ready
	mkdir -p build/zoo
	$(EXAM_VENV)/bin/python $(EXAM)/zoo.py build/zoo $(EXAM_MODELS)
	@touch $@

$(EXAM_VENV)/.ready: pyproject.toml constraints.txt
	@test -d $(EXAM) || { echo "no exam at $(EXAM); fix: make exam EXAM=<its folder>" >&2; exit 1; }
	EXAM_VENV=$(EXAM_VENV) bash $(EXAM)/venv.sh
	$(EXAM_VENV)/bin/python $(INSTALL) '.[cpu,dev]'
	@touch $@
