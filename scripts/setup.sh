#!/usr/bin/env bash
# Install what privseg needs. Usage: scripts/setup.sh run|test
# run:  .venv (privseg with all extras, pinned by requirements/constraints.txt) and .venv-triton (the Triton server;
#       it needs numpy 1, so it cannot share an environment with the rest), and the system libraries they load.
# test: the system packages that only tests use.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3.11}

say() { printf '▸ %s\n' "$*"; }
fail() { printf 'privseg: %s\n' "$*" >&2; exit 5; }

# apt_install PACKAGE...: installs the ones that are missing
apt_install() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || fail "system packages missing: ${missing[*]}. Next: install them, then run the same command"
    local sudo=""
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || fail "system packages missing: ${missing[*]}. Next: apt-get install them as root"
        sudo=sudo
    fi
    say "installing system packages: ${missing[*]}"
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# environment DIR: a virtual environment, made again if it is broken
environment() {
    [ -x "$1/bin/python" ] && "$1/bin/python" -m pip --version >/dev/null 2>&1 && return 0
    rm -rf "$1"
    "$PYTHON" -m venv "$1" 2>/dev/null || { rm -rf "$1"; apt_install python3.11-venv; "$PYTHON" -m venv "$1"; }
}

case "${1:-}" in
run)
    command -v "$PYTHON" >/dev/null || fail "$PYTHON: not found. Next: install Python 3.11, or name it: make PYTHON=/path/to/python3.11"
    # git: the workspace's history. libGL and GLib: OpenCV. libpython: Triton's Python backend, where Python has no shared library.
    apt_install git libgl1 libglib2.0-0
    shared=$("$PYTHON" -c 'import sysconfig, pathlib; print((pathlib.Path(sysconfig.get_config_var("LIBDIR")) / "libpython3.11.so.1.0").exists())')
    [ "$shared" = True ] || apt_install libpython3.11
    say "Python environment .venv (torch first, so that nothing pulls another build of it)"
    environment .venv
    .venv/bin/pip install --quiet -c requirements/constraints.txt torch==2.13.0
    say "Python environment .venv: Airflow, DVC, Great Expectations, mmsegmentation and the rest"
    .venv/bin/pip install --quiet -c requirements/constraints.txt -e '.[orchestrate,s3,train,serve,live,dev]'
    say "Python environment .venv-triton: the Triton server, ONNX Runtime and OpenVINO"
    environment .venv-triton
    .venv-triton/bin/pip install --quiet -r requirements/triton.txt
    ;;
test)
    # a real RTSP server, Prometheus' promtool, and a browser
    apt_install gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly \
        gstreamer1.0-rtsp gir1.2-gst-rtsp-server-1.0 python3-gi prometheus chromium
    ;;
*)
    fail "scripts/setup.sh: no such argument '${1:-}'. Next: scripts/setup.sh run"
    ;;
esac
