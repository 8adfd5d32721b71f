#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Bring .venv up to date: torch, ROS 2 Kilted from wheels, our message packages, and this package (editable, so that an
# edited source runs without another set-up; launch and configuration files are copies, which the last step renews).
# Where there are no ROS wheels (aarch64, Python 3.14 and later), .venv gets everything else.
#
# A step runs again only when a file that it depends on has changed since it last succeeded: an interrupted set-up goes
# on where it stopped, and a second one has nothing to do.
#   PYTHON       interpreter of a new .venv (python3)
#   TORCH_INDEX  package index of the torch of a new .venv, where it should be another build than the one that is found here
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=.venv
stamps=$venv/setup
pip_log=$stamps/pip.log
constraints=requirements/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

say() {
    printf 'setup: %s\n' "$1"
}

fail() {
    say "$1" >&2
    exit 1
}

version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

# The wheels of ROS 2 Kilted are for x86-64 and these versions of Python.
has_ros_wheels() {
    [[ $(uname -m) == x86_64 && $(version_of "$1") =~ ^3\.1[123]$ ]]
}

pip_install() {
    "$venv/bin/python" -m pip install --constraint "$constraints" "$@" 2>"$pip_log"
}

# Of what pip says, the files whose download takes a while.
show_progress() {
    sed --unbuffered --quiet --regexp-extended \
        -e 's/^ *Downloading (\S+) \(([0-9]{2,}\.[0-9] MB|[0-9.]+ GB)\)$/setup:   downloading \1, \2/p' \
        -e 's/^Installing collected packages.*/setup:   unpacking/p'
}

install() {
    pip_install --progress-bar off "$@" | show_progress || explain_failure
}

explain_failure() {
    if grep -qE 'NewConnectionError|NameResolutionError|ConnectTimeout|ProxyError|Network is unreachable' "$pip_log"; then
        fail "no package index can be reached: is there a network? PIP_INDEX_URL names a mirror, HTTPS_PROXY a proxy."
    fi
    tail -n 15 "$pip_log" >&2
    fail "pip could not install what is needed, for the reason above."
}

# The files that each step depends on.
files_of() {
    case $1 in
        packages) ls requirements/*.txt ;;
        interfaces) find interfaces -type f -not -path '*/build/*' -not -path '*.egg-info/*' | sort && echo "$constraints" ;;
        project) find config launch requirements resource scripts/ros2_run -type f | sort && ls package.xml setup.* ;;
    esac
}

fingerprint() {
    echo "in $PWD" # an environment that was moved does not work
    files_of "$1" | xargs sha256sum
}

is_current() {
    [[ -f $stamps/$1 && $(<"$stamps/$1") == "$(fingerprint "$1")" ]]
}

check_platform() {
    case $(uname -sm) in
        "Linux x86_64" | "Linux aarch64") ;;
        *) fail "torch, Numba and ROS 2 come for Linux on x86_64 and aarch64, but this is $(uname -sm)." ;;
    esac
}

# Everything that the distribution has to bring, in one sentence.
check_prerequisites() {
    local python=$1 version header missing=()
    if version=$(version_of "$python"); then
        [[ $version =~ ^3\.(1[1-9]|[2-9][0-9])$ ]] ||
            fail "$python is Python $version, but 3.11 or later is needed: set PYTHON, for example PYTHON=python3.12 make test."
        "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=("python$version-venv")
    elif [[ -n ${PYTHON:-} ]]; then
        fail "$python is not a Python interpreter: set PYTHON, for example PYTHON=python3.12 make test."
    else
        missing+=(python3 python3-venv python3-dev)
    fi
    # The message packages are compiled.
    if [[ -z $version ]] || has_ros_wheels "$python"; then
        header=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))' 2>/dev/null)/Python.h || true
        [[ -z $version || -f $header ]] || missing+=("python$version-dev")
        { command -v gcc && command -v g++; } >/dev/null || missing+=(g++)
    fi
    ((${#missing[@]} == 0)) || fail "missing here: ${missing[*]}. On Debian or Ubuntu: sudo apt install ${missing[*]}"
}

# Whether .venv is complete and has the Python that was asked for, if one was.
venv_is_usable() {
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 &&
        [[ -z ${PYTHON:-} || $(version_of "$PYTHON") == "$(version_of "$venv/bin/python")" ]]
}

# Where nobody asks for another build, the one without CUDA, which is some gigabytes smaller, if it is to be had.
install_torch() {
    local version
    version=$(sed -n 's/^torch==//p' "$constraints")
    if [[ -n ${TORCH_INDEX:-} ]]; then
        install --index-url "$TORCH_INDEX" torch
    elif "$venv/bin/python" -c 'import torch' 2>/dev/null; then
        install torch
    elif pip_install --quiet --dry-run --no-deps "torch==$version+cpu" >/dev/null; then
        install "torch==$version+cpu"
    else
        say "this package index has no build of torch for CPUs alone, so the one with CUDA comes: about 2.5 GB to download, 6 GB on disk. TORCH_INDEX names an index that has another."
        install torch
    fi
}

step_packages() {
    local purpose purposes=(runtime train cluster test)
    if has_ros_wheels "$venv/bin/python"; then
        purposes+=(ros_wheels)
    fi
    say "installing torch and what is needed for: ${purposes[*]} (requirements/; once, several minutes)"
    install pip setuptools wheel
    install_torch
    install $(printf -- '--requirement requirements/%s.txt ' "${purposes[@]}")
}

step_interfaces() {
    has_ros_wheels "$venv/bin/python" || return 0
    say "building the message packages (once, less than a minute)"
    install --no-build-isolation --no-deps --force-reinstall ./interfaces
}

step_project() {
    say "installing aegnn_ros"
    install --no-build-isolation --no-deps --editable .
    # Editable installations lack the data files, so they are copied here, by the command that pip has outgrown.
    "$venv/bin/python" -W "ignore:setup.py install" setup.py --quiet install_data --install-dir "$venv"
}

if ! venv_is_usable; then
    check_platform
    check_prerequisites "${PYTHON:-python3}"
    "${PYTHON:-python3}" -m venv --clear "$venv"
    has_ros_wheels "$venv/bin/python" ||
        say "there are no ROS 2 wheels for $(uname -m) with Python $(version_of "$venv/bin/python"), so this sets up everything but ROS; docs/machines.md says how ROS from apt joins it."
elif ! is_current interfaces; then
    check_prerequisites "$venv/bin/python"
fi
mkdir -p "$stamps"
for step in packages interfaces project; do
    if ! is_current "$step"; then
        "step_$step"
        fingerprint "$step" >"$stamps/$step"
    fi
done
