# Everything a person or CI runs. `make demo` and `make test` need nothing but Python >= 3.11,
# make and LightGBM's system library; they make .venv by themselves and are quick the second time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test lint types contracts unit check-slow explore bench bench-events bench-control bench-steering loadtest wheel proto constraints clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

$(STAMP): constraints.txt pyproject.toml scripts/check_system.py
	@$(PYTHON) scripts/check_system.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing pinned dependencies into $(VENV) (a minute or two, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP)  ## the main job end to end, on the embedded store; Ctrl-C ends it (DEMO_ARGS="--exit")
	@$(BIN)/rta demo $(DEMO_ARGS)

test: lint types contracts unit  ## lint, types, import contracts, tests with coverage

lint: $(STAMP)  ## formatting, style, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell

types: $(STAMP)  ## mypy --strict
	$(BIN)/mypy

contracts: $(STAMP)  ## the layers of docs/architecture.md, checked
	$(BIN)/lint-imports

unit: $(STAMP)  ## the tests, with branch coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m "not slow" -n 2 --dist worksteal
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check-slow: $(STAMP)  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

explore: $(STAMP)  ## the property tests on new random examples, 1,000 each where a test sets no number
	$(BIN)/python -m pytest -m "hypothesis and not slow" -n 2 --timeout 1200 --hypothesis-profile explore

bench: $(STAMP)  ## decisions per second on one core against the obvious version, as ratios
	$(BIN)/python -m loadtest.bench $(BENCH_ARGS)

bench-events: $(STAMP)  ## events a second: taken in durably, folded, drained; decisions beside them
	$(BIN)/python -m loadtest.bench_events $(BENCH_ARGS)

bench-control: $(STAMP)  ## cost control against T x p, a tuned PID and the best multiplier; control-bench.html
	$(BIN)/rta control bench --page control-bench.html $(BENCH_ARGS)

bench-steering: $(STAMP)  ## what cost control costs a request, and how old orders get
	$(BIN)/python -m loadtest.bench_steering $(BENCH_ARGS)

loadtest: $(STAMP)  ## locust scenarios against a service it starts itself (LOADTEST_ARGS)
	$(BIN)/python -m loadtest.run $(LOADTEST_ARGS)

wheel: $(STAMP)  ## build the wheel into dist/
	@rm -rf dist
	@$(BIN)/python -m hatchling build -t wheel

proto: $(STAMP)  ## compile the platforms' protobuf schemas
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. rta_service/platforms/tencent/tencent.proto

constraints:  ## pin again: needs uv
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	  --generate-hashes --no-header --quiet --upgrade -o constraints.txt

clean:  ## remove what the targets made, but not .venv
	rm -rf dist build htmlcov .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis
