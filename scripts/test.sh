#!/usr/bin/env bash
# Run the tests, every folder in a process of its own.
#
# Runtimes of several languages that meet in one process (Go's in Helm's engine, OpenMP's in PyTorch, TBB's in OpenVINO,
# gRPC's threads) have taken the whole run down. All folders run, whatever fails.
set -uo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python
failed=()

part() {
    echo "== $*"
    "$python" -m pytest "$@" || failed+=("$1")
}

for folder in tests/*/; do
    # what runs for half an hour has a verb of its own: make soak
    [[ $folder == tests/soak/ || $folder == *__pycache__/ ]] || part "$folder"
done
part tests/test_*.py

if ((${#failed[@]})); then
    echo "tests failed in: ${failed[*]}" >&2
    exit 1
fi
echo "all tests passed"
