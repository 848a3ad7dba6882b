#!/usr/bin/env bash
# Run the tests, every folder in a process of its own, two of them at a time.
#
# Runtimes of several languages that meet in one process (Go's in Helm's engine, OpenMP's in PyTorch, TBB's in OpenVINO,
# gRPC's threads) have taken the whole run down. All folders run, whichever fails; what a folder printed appears when it
# ends, so that two never mix (a line says when it starts). PRIVSEG_TEST_LANES=1 runs them one after the other.
set -uo pipefail
cd "$(dirname "$0")/.."
lanes=${PRIVSEG_TEST_LANES:-2}
logs=$(mktemp -d) || exit 1
trap 'rm -rf "$logs"' EXIT

part() {
    local log=$1/$2.log started=$SECONDS status=0
    shift 2
    echo ".. $1"
    .venv/bin/python -m pytest "$@" >"$log" 2>&1 || status=$?
    # one write a folder: a lane that ends meanwhile waits for it
    flock "${log%/*}" cat - "$log" <<<"== $* ($((SECONDS - started)) s, exit code $status)"
    ((status == 0)) && return 0
    echo "$1" >>"${log%/*}/failed"
    return 1
}
export -f part

# the longest ones first: the last to end is then a short one
first=(e2e orchestration serving training datasets faults)
folders=()
for name in "${first[@]}"; do folders+=("tests/$name"); done
for folder in tests/*/; do
    name=$(basename "$folder")
    # long load has a verb of its own: make soak
    [[ $name == soak || $name == __pycache__ || " ${first[*]} " == *" $name "* ]] || folders+=("tests/$name")
done

{
    for folder in "${folders[@]}"; do echo "${folder##*/} $folder"; done
    echo top tests/test_*.py
} | xargs -P "$lanes" -L 1 bash -c 'part "$0" "$@"' "$logs" || {
    echo "tests failed in: $(paste -sd' ' "$logs/failed" || echo "folders above")" >&2
    exit 1
}
echo "all tests passed"
