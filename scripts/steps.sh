# Sourced by the other scripts: run steps one after the other, tell which failed.
#
#   step NAME COMMAND...     runs the command; a failure is noted, and the next step still runs
#   finish                   prints one line a step; exits 1 if one failed

step_lines=()
steps_failed=0

step() {
    local name=$1 started=$SECONDS status=0
    shift
    echo "== $name"
    "$@" || status=$?
    if [ "$status" -eq 0 ]; then
        step_lines+=("$(printf 'ok      %-14s %4d s' "$name" $((SECONDS - started)))")
    else
        step_lines+=("$(printf 'FAILED  %-14s %4d s  (exit code %d)' "$name" $((SECONDS - started)) "$status")")
        steps_failed=1
    fi
}

finish() {
    echo
    printf '%s\n' "${step_lines[@]}"
    exit "$steps_failed"
}
