#!/usr/bin/env bash
# The first five minutes of a new user: `make demo` in a copy of the sources, with the Python of the
# distribution and nothing else of this environment. Leaves nothing behind.
#
#   scripts/fresh.sh             FRESH_SECONDS=... gives up after so long (default: 600)
set -euo pipefail
cd "$(dirname "$0")/.."

python=/usr/bin/python3
if ! "$python" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "fresh: skipped: the distribution has no Python >= 3.11 that makes environments ($python)"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/home" "$work/tmp" "$work/hpcstream"

list_sources() { # what a clone would have, changed files as they are now
    if [ "$(git rev-parse --show-toplevel 2>/dev/null)" = "$PWD" ]; then
        git ls-files -z
    else # unpacked from an archive
        find . -mindepth 1 \( -name '.?*' ! -name .ci ! -name .gitignore -o -name __pycache__ \
            -o -name '*.egg-info' -o -path ./build -o -path ./dist -o -path ./site -o -path ./out \) \
            -prune -o ! -type d -print0
    fi
}

copy_sources() {
    local file
    list_sources | while IFS= read -r -d '' file; do
        if [ -e "$file" ] || [ -L "$file" ]; then printf '%s\0' "$file"; fi
    done | tar --create --null --files-from=- | tar --extract --directory "$work/hpcstream"
}

site_settings() { # how this place reaches the packages; a user has them in files of the system
    env | grep -E '^(PIP_(CERT|CONFIG_FILE|FIND_LINKS|INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|DEFAULT_TIMEOUT|NO_INDEX)|SSL_CERT_FILE|(https?|no)_proxy|(HTTPS?|NO)_PROXY)=' || true
}

copy_sources
mapfile -t settings < <(site_settings)
cd "$work/hpcstream"
env -i HOME="$work/home" TMPDIR="$work/tmp" PATH=/usr/bin:/bin "${settings[@]}" \
    timeout --foreground --kill-after=20 "${FRESH_SECONDS:-600}" make demo
version=$(.venv/bin/python --version)
[ -s out/airport-delays/airport-delays.png ] || { echo "fresh: the demo has drawn nothing" >&2; exit 1; }
echo "fresh: the demo runs on a fresh copy with $version of the distribution"
