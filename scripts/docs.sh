#!/usr/bin/env bash
# Build the documentation into site/; a warning is an error.
#
#   scripts/docs.sh BIN          BIN: where mkdocs is
set -euo pipefail
cd "$(dirname "$0")/.."
exec "$1/mkdocs" build --strict --quiet
