#!/usr/bin/env bash
# Bring .venv up to date: torch, ROS 2 Kilted from wheels, our message packages, and this package (editable, so that an
# edited source runs without another set-up; launch and configuration files are copies, which the last step renews).
#
# A step runs again only when a file that it depends on has changed since it last succeeded: an interrupted set-up goes
# on where it stopped, and a second one has nothing to do. PYTHON names the interpreter of a new .venv (python3).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=.venv
stamps=$venv/setup
constraints=requirements/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK=1

fail() {
    printf 'setup: %s\n' "$1" >&2
    exit 1
}

install() {
    "$venv/bin/python" -m pip install -qq --constraint "$constraints" "$@"
}

version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
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
    [[ $(uname -sm) == "Linux x86_64" ]] || fail "ROS 2 wheels exist for Linux x86_64 only, but this is $(uname -sm)."
}

check_compiler() {
    local tool header
    for tool in gcc g++; do
        command -v "$tool" >/dev/null || fail "$tool is missing, which builds the message packages: install it (Debian, Ubuntu: build-essential)."
    done
    header=$("$1" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
    [[ -f $header ]] || fail "$header is missing, which the message packages need: install it (Debian, Ubuntu: python$(version_of "$1")-dev)."
}

check_python() {
    local version
    version=$(version_of "$1") || fail "$1 is not a Python interpreter: set PYTHON, for example PYTHON=python3.12 make test."
    case $version in
        3.10 | 3.11 | 3.12 | 3.13) ;;
        *) fail "$1 is Python $version, but ROS 2 wheels exist for 3.10 to 3.13: set PYTHON, for example PYTHON=python3.12 make test." ;;
    esac
    "$1" -c 'import ensurepip, venv' 2>/dev/null || fail "$1 cannot create virtual environments: install its venv module (Debian, Ubuntu: python$version-venv)."
}

# Whether .venv is complete and has the Python that was asked for, if one was.
venv_is_usable() {
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 &&
        [[ -z ${PYTHON:-} || $(version_of "$PYTHON") == "$(version_of "$venv/bin/python")" ]]
}

step_packages() {
    echo "setup: installing torch, ROS 2 and the other packages (once, several minutes)"
    install setuptools wheel torch
    install $(printf -- '--requirement requirements/%s.txt ' runtime train cluster ros_wheels test)
}

step_interfaces() {
    echo "setup: building the message packages (once, less than a minute)"
    install --no-build-isolation --no-deps --force-reinstall ./interfaces
}

step_project() {
    echo "setup: installing aegnn_ros"
    install --no-build-isolation --no-deps --editable .
    # Editable installations lack the data files, so they are copied here, by the command that pip has outgrown.
    "$venv/bin/python" -W "ignore:setup.py install" setup.py --quiet install_data --install-dir "$venv"
}

if ! venv_is_usable; then
    check_platform
    check_python "${PYTHON:-python3}"
    check_compiler "${PYTHON:-python3}"
    "${PYTHON:-python3}" -m venv --clear "$venv"
elif ! is_current interfaces; then
    check_compiler "$venv/bin/python"
fi
for step in packages interfaces project; do
    if ! is_current "$step"; then
        "step_$step"
        mkdir -p "$stamps"
        fingerprint "$step" >"$stamps/$step"
    fi
done
