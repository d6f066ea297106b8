# make demo   a protected server, ten callers, one table        make test    every test
# make check  ruff, mypy --strict, the import contract          make bench   the benchmarks, written to benchmarks/results/
# make demo-temporal  a real Temporal server behind the proxy, and the real SDK
# make demo-envoy     a real Envoy that asks the external authorizer, before gRPC and plain HTTP
# make proto  the example's generated code, again
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo demo-temporal demo-envoy test check bench proto clean
.DEFAULT_GOAL := test

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("authz needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; say: make PYTHON=/path/to/python3.11") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/python -m examples.orders.demo

demo-temporal: $(STAMP)
	@$(BIN)/python -m examples.temporal.demo

demo-envoy: $(STAMP)
	@$(BIN)/python -m examples.envoy.demo

test: $(STAMP)
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(STAMP)
	$(BIN)/python -m benchmarks

proto: $(STAMP)
	$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. --grpc_python_out=. examples/orders/orders.proto

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
