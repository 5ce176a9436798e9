#!/usr/bin/env bash
# The benchmarks: every suite on one and two ranks, workloads beside the peers that are installed, and
# the latency of a paced stream; one report with plots. Options that follow BIN go to `hpcstream bench run`.
#
#   scripts/bench.sh BIN [OPTION...]          BIN: the environment's programs
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$1
shift
exec "$bin/hpcstream" bench run --quick "$@"
