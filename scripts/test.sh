#!/usr/bin/env bash
# All that a change must pass. The tests come last, so that their summaries end the output.
#
# They run in two halves side by side: those that compute, and those that start jobs, which wait most
# of the time. What the second one says is shown when both have ended.
#
#   scripts/test.sh BIN          BIN: the environment's programs
set -uo pipefail
cd "$(dirname "$0")/.."
bin=$1
. scripts/steps.sh

step "lint" scripts/lint.sh "$bin"
step "docs" scripts/docs.sh "$bin"
step "fresh clone" scripts/fresh.sh

computing=(tests/unit tests/kernels tests/docs)
half() { "$bin/python" -m pytest --durations=10 -p no:cacheprovider "$@"; }
tests() {
    local log status=0
    log=$(mktemp)
    half "${computing[@]/#/--ignore=}" >"$log" 2>&1 &
    local other=$!
    half "${computing[@]}" || status=$?
    wait "$other" || status=$?
    cat "$log"
    rm -f "$log"
    return "$status"
}

step "kernels" "$bin/hpcstream" compile
step "tests" tests
finish
