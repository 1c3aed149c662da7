# The everyday commands by name. Each is one line that calls scripts/ or a tool of .venv.
.PHONY: help test lint format types unit docs soak fuzz quickstart clean

help: ## say what there is
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile

test: ## install what is missing and run everything
	scripts/test

lint: ## style and the import contract
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/pytest -q tests/unit/test_imports.py

format: ## rewrite the sources in the project's style
	.venv/bin/ruff format . && .venv/bin/ruff check --fix .

types: ## mypy, strict
	.venv/bin/mypy

unit: ## the fast tests only
	.venv/bin/pytest -q -n 2 tests/unit tests/property

docs: ## write docs/cli.md from the command's help
	scripts/docs

soak: ## the long form of the kill test
	scripts/soak kill

fuzz: ## a minute of CPU time for each parser
	for target in tar ext4 vmdk state; do scripts/fuzz $$target || exit; done

quickstart: ## from nothing to a running VM
	scripts/quickstart

clean: ## remove what tools left behind, not .venv
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
