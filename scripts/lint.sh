#!/usr/bin/env bash
# Style, types and spelling.
#
#   scripts/lint.sh BIN          BIN: where ruff, mypy and codespell are
set -uo pipefail
cd "$(dirname "$0")/.."
bin=$1
. scripts/steps.sh

step "ruff check" "$bin/ruff" check .
step "ruff format" "$bin/ruff" format --check .
step "mypy" "$bin/mypy"
step "mypy on a script" "$bin/mypy" tests/typing/what_checkers_see.py
step "codespell" "$bin/codespell"
finish
