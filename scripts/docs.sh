#!/usr/bin/env bash
# Build the documentation into site/; a warning is an error.
#
#   scripts/docs.sh BIN          BIN: where mkdocs is
set -euo pipefail
cd "$(dirname "$0")/.."
# The theme advertises its successor on every build; that is not about these pages.
NO_MKDOCS_2_WARNING=1 exec "$1/mkdocs" build --strict
