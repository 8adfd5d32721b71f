# SPDX-License-Identifier: Apache-2.0
"""The kernels compiled ahead of time, without a device: `python -m aegnn_core.asynchronous.cuda.targets [80 87 …]`.

Triton's own compiler does it, for any device. What it writes are registers, bytes of local memory (spills) and of
shared memory per kernel, as JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aegnn_core.asynchronous.cuda.availability import interpreted
from aegnn_core.asynchronous.cuda.engine import CudaEngine
from aegnn_core.events.array import EVENT_DTYPE
from aegnn_core.graph import GraphConfig
from aegnn_core.nn.networks import GraphNetwork, network

__all__ = ["TARGETS", "Compiled", "compile_kernels"]

#: Compute capabilities: A100, Jetson Orin, H100, RTX 50.
TARGETS = (80, 87, 90, 120)
_THREADS_PER_WARP = 32


@dataclass(frozen=True)
class Compiled:
    """A kernel as compiled for a target; bytes per thread (``local``) and per program (``shared``)."""

    kernel: str
    network: str
    target: int
    registers: int
    local: int
    shared: int
    warps: int


class _Recorder:
    """Takes the place of a kernel: notes with which arguments it is launched, and does nothing."""

    def __init__(self, name: str, launches: list[tuple[str, tuple[Any, ...], dict[str, Any]]]) -> None:
        self._name, self._launches = name, launches

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*arguments: Any, **constants: Any) -> None:
            self._launches.append((self._name, arguments, constants))

        return launch


class _Recording:
    """All kernels, as recorders."""

    def __init__(self) -> None:
        self.launches: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> _Recorder:
        return _Recorder(name, self.launches)


def launches_of(model: GraphNetwork, graph: GraphConfig) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Name, arguments and constants of every launch that an update by one event and an answer make."""
    recording = _Recording()
    engine = CudaEngine(model, graph, recording)
    engine.update(np.zeros(1, EVENT_DTYPE))
    if not model.reads_edges:
        engine.output(0)
    return recording.launches


def compile_kernels(name: str, model: GraphNetwork, graph: GraphConfig, targets: tuple[int, ...]) -> list[Compiled]:
    """Compile what a network launches, every kernel once per set of constants, for some targets.

    Raises:
        RuntimeError: Triton is in its interpreter's mode.
    """
    if interpreted():
        raise RuntimeError("kernels cannot be compiled with TRITON_INTERPRET set: unset it")
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from aegnn_core.asynchronous.cuda import kernels

    results, seen = [], set()
    for kernel, arguments, constants in launches_of(model, graph):
        function = getattr(kernels, kernel)
        names = function.arg_names
        signature = {key: _type_of(value) for key, value in zip(names, arguments, strict=False)}
        signature |= dict.fromkeys(constants, "constexpr")
        source = ASTSource(function, signature, {(names.index(key),): value for key, value in constants.items()})
        for target in targets:
            key = (kernel, target, tuple(signature.items()), tuple(constants.items()))
            if key in seen:
                continue
            seen.add(key)
            compiled = triton.compile(source, target=GPUTarget("cuda", target, _THREADS_PER_WARP))
            registers, local = _resources(compiled.asm["cubin"])
            metadata = compiled.metadata
            results.append(Compiled(kernel, name, target, registers, local, metadata.shared, metadata.num_warps))
    return results


def _type_of(value: Any) -> str:
    if isinstance(value, Tensor):
        kinds = {torch.float32: "fp32", torch.float64: "fp64", torch.int16: "i16", torch.int32: "i32"}
        return "*" + kinds.get(value.dtype, "i64")
    return "i32"


def _resources(cubin: bytes) -> tuple[int, int]:
    """Registers, and bytes of local memory, of a thread."""
    from triton import knobs

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(cubin)
        shown = subprocess.run(
            [knobs.nvidia.cuobjdump.path, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", shown)
    if found is None:
        raise RuntimeError(f"cuobjdump -res-usage says nothing of registers: {shown[:500]}")
    registers, stack, local = map(int, found.groups())
    return registers, stack + local


#: What is compiled: every kind of layer and pooling of the package's networks.
NETWORKS: dict[str, dict[str, Any]] = {
    "graph_res, N-Cars": {"name": "graph_res", "dataset": "ncars"},
    "graph_res, Gen1": {"name": "graph_res", "dataset": "gen1", "task": "detection"},
    "graph_wen, N-Cars": {"name": "graph_wen", "dataset": "ncars"},
    "graph_histogram, simulated": {"name": "graph_histogram", "dataset": "simulated", "task": "detection"},
}


def main() -> None:
    """Compile the package's networks and print what they need."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", type=int, nargs="*", default=TARGETS, help="compute capabilities, 87 for 8.7")
    targets = tuple(parser.parse_args().targets)
    results = []
    for name, options in NETWORKS.items():
        results += compile_kernels(name, network(**options), GraphConfig(), targets)
    print(json.dumps([asdict(result) for result in results], indent=1))


if __name__ == "__main__":
    main()
