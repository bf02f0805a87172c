#!/usr/bin/env bash
# Installs the package with its development tools, then style, types and tests.
# Further arguments go to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" ".[dev]"
ruff check .
ruff format --check .
mypy
python -m pytest "$@"
