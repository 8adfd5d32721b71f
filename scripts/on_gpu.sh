#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# All that wants a CUDA device, in a few minutes and without ROS: the tests that need one, the kernels compiled for the
# device, and the figures of benchmarks/gpu.py. Needs torch, torch-geometric, numba, numpy and triton; the tests need
# pytest and hypothesis, and are left out where these are missing.
#   scripts/on_gpu.sh [DIR]        writes DIR/gpu.json and DIR/gpu.md (gpu_figures)
#   scripts/on_gpu.sh --dry [DIR]  tries the program without a device, in Triton's interpreter, and leaves the tests out
#   PYTHON                         interpreter (.venv/bin/python if it is there, otherwise python3)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dry=
if [[ ${1:-} == --dry ]]; then
    dry=--dry
    shift
fi
folder=${1:-gpu_figures}
python=${PYTHON:-}
if [[ -z $python ]]; then
    python=python3
    [[ -x .venv/bin/python ]] && python=.venv/bin/python
fi
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}

if [[ -n $dry ]]; then
    TRITON_INTERPRET=1 exec "$python" benchmarks/gpu.py --dry "$folder"
fi

export TRITON_INTERPRET=0
failed=0
if "$python" -c 'import pytest, hypothesis, pytest_timeout' 2>/dev/null; then
    # What takes long is compiling, for which there are many cores.
    several=()
    "$python" -c 'import xdist' 2>/dev/null && several=(-n 8 --dist worksteal)
    "$python" -m pytest -q "${several[@]}" -m cuda tests/asynchronous tests/nn || failed=$?
else
    echo "on_gpu: the tests are left out, pytest, pytest-timeout or hypothesis is missing"
fi
"$python" benchmarks/gpu.py "$folder" || failed=$?
exit "$failed"
