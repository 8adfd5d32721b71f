# SPDX-License-Identifier: Apache-2.0
"""The kernels compiled ahead of time, without a device: `python -m aegnn_core.asynchronous.cuda.targets [80 87 …]`.

Triton's own compiler does it, for any device. What it writes are registers, bytes of local memory (spills) and of
shared memory per kernel, as JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aegnn_core.asynchronous.cuda.engine import CudaEngine
from aegnn_core.events.array import EVENT_DTYPE
from aegnn_core.graph import GraphConfig
from aegnn_core.nn import spline_triton
from aegnn_core.nn.graph_network import GraphNetwork
from aegnn_core.nn.networks import network
from aegnn_core.triton_support import interpreted

__all__ = ["TARGETS", "Compiled", "compile_launches"]

#: Compute capabilities: A100, Jetson Orin, H100, RTX 50.
TARGETS = (80, 87, 90, 120)
_THREADS_PER_WARP = 32
_KINDS = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.int16: "i16",
    torch.int32: "i32",
}


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


def launches_of_training(
    dtype: torch.dtype, sizes: tuple[int, ...], inputs: int, outputs: int
) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """The same of a spline convolution of whole graphs, and of its gradients."""
    recording = _Recording()
    features = torch.zeros(1, inputs, dtype=dtype, requires_grad=True)
    weight = torch.zeros(math.prod(sizes), inputs, outputs, dtype=dtype, requires_grad=True)
    nowhere = torch.zeros(0, dtype=torch.long)
    edges = spline_triton.OrderedEdges(nowhere, nowhere, torch.ones(1), torch.zeros(0, len(sizes)), sizes)
    spline_triton.convolve(features, weight, edges, recording).sum().backward()  # type: ignore[no-untyped-call]
    return recording.launches


def compile_launches(
    name: str, kernels: Any, launches: list[tuple[str, tuple[Any, ...], dict[str, Any]]], targets: tuple[int, ...]
) -> list[Compiled]:
    """Compile what is launched, every kernel once per set of constants, for some targets.

    Args:
        name: of what the launches are of.
        kernels: module of the kernels.
        launches: from :func:`launches_of` or :func:`launches_of_training`.
        targets: compute capabilities, such as 87 for 8.7.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    results, seen = [], set()
    for kernel, arguments, constants in launches:
        function = getattr(kernels, kernel)
        names = function.arg_names
        options = {key: value for key, value in constants.items() if key not in names}  # such as num_warps
        fixed = {(names.index(key),): value for key, value in constants.items() if key in names}
        signature = {key: _type_of(value) for key, value in zip(names, arguments, strict=False)}
        signature |= {key: "constexpr" for key in constants if key in names}
        source = ASTSource(function, signature, fixed, _divisible(arguments))
        for target in targets:
            key = (kernel, target, tuple(signature.items()), tuple(constants.items()))
            if key in seen:
                continue
            seen.add(key)
            compiled = triton.compile(source, target=GPUTarget("cuda", target, _THREADS_PER_WARP), options=options)
            registers, local = _resources(compiled.asm["cubin"])
            metadata = compiled.metadata
            results.append(Compiled(kernel, name, target, registers, local, metadata.shared, metadata.num_warps))
    return results


def _type_of(value: Any) -> str:
    if isinstance(value, Tensor):
        return "*" + _KINDS.get(value.dtype, "i64")
    return "i32"


def _divisible(arguments: tuple[Any, ...]) -> dict[tuple[int], list[list[Any]]]:
    """Which arguments are multiples of 16, as a launch tells the compiler: memory from torch is, and some numbers."""
    multiple = (number for number, value in enumerate(arguments) if isinstance(value, Tensor) or value % 16 == 0)
    return {(number,): [["tt.divisibility", 16]] for number in multiple}


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

#: Layers that are trained: AEGNN's small and large ones, and one of 16-bit numbers.
LAYERS: dict[str, dict[str, Any]] = {
    "training, 16 to 32": {"dtype": torch.float32, "sizes": (2, 2, 2), "inputs": 16, "outputs": 32},
    "training, 128 to 128": {"dtype": torch.float32, "sizes": (8, 8, 8), "inputs": 128, "outputs": 128},
    "training, 16 to 32, bfloat16": {"dtype": torch.bfloat16, "sizes": (2, 2, 2), "inputs": 16, "outputs": 32},
}


def main() -> None:
    """Compile the package's networks and print what they need."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", type=int, nargs="*", default=TARGETS, help="compute capabilities, 87 for 8.7")
    targets = tuple(parser.parse_args().targets)
    if interpreted():
        parser.error("kernels cannot be compiled with TRITON_INTERPRET set: unset it")
    from aegnn_core.asynchronous.cuda import kernels
    from aegnn_core.nn import spline_triton_kernels

    results = []
    for name, options in NETWORKS.items():
        module = network(**options)
        assert isinstance(module, GraphNetwork)
        results += compile_launches(name, kernels, launches_of(module, GraphConfig()), targets)
    for name, layer in LAYERS.items():
        results += compile_launches(name, spline_triton_kernels, launches_of_training(**layer), targets)
    print(json.dumps([asdict(result) for result in results], indent=1))


if __name__ == "__main__":
    main()
