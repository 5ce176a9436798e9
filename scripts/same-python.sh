#!/usr/bin/env bash
# Say "yes" if a virtual environment has the Python that is asked for.
#
#   scripts/same-python.sh PYTHON VENV
ask='import sys; print(sys.version)'
asked=$("$1" -c "$ask" 2>/dev/null)
if [ -n "$asked" ] && [ "$asked" = "$("$2/bin/python" -c "$ask" 2>/dev/null)" ]; then
    echo yes
fi
