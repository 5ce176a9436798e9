#!/usr/bin/env bash
# The first benchmark: `tumbling` and `sliding` on one and two ranks, beside what the hardware
# allows. About five minutes. Options that follow BIN go to `python -m benchmarks run`.
#
#   scripts/bench.sh BIN [OPTION...]          BIN: the environment's programs
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$1
shift
exec "$bin/python" -m benchmarks run --workloads tumbling sliding --ranks 1 2 --peers one-pass \
    --no-variants --seconds 5 "$@"
