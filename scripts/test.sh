#!/usr/bin/env bash
# All that a change must pass. The tests come last, so that their summary ends the output.
#
#   scripts/test.sh BIN          BIN: the environment's programs
set -uo pipefail
cd "$(dirname "$0")/.."
bin=$1
. scripts/steps.sh

step "lint" scripts/lint.sh "$bin"
step "docs" scripts/docs.sh "$bin"
step "fresh clone" scripts/fresh.sh
step "tests" "$bin/python" -m pytest --durations=10
finish
