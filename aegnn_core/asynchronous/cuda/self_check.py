# SPDX-License-Identifier: Apache-2.0
"""The engine is compared with the CPU's on the device where it is to run, before anybody relies on it.

Kernels can be wrong on a device on which nobody has tried them. So whoever makes the engine on a device has it answer
to a stream that is always the same, beside an engine on the CPU. What differs by more than the contract allows is not
used: :meth:`CudaEngine.refusal` says by how much, and the next engine is used instead.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise

import numpy as np
import torch

from aegnn_core.asynchronous.compiled import CompiledEngine
from aegnn_core.asynchronous.counting_engine import CountingEngine
from aegnn_core.asynchronous.engine_contract import Engine, EngineClass
from aegnn_core.asynchronous.packet_engine import PacketEngine
from aegnn_core.asynchronous.weights import architecture_digest
from aegnn_core.events.array import make_events
from aegnn_core.graph import GraphConfig
from aegnn_core.nn.graph_network import GraphNetwork

__all__ = ["TOLERANCE", "disagreement", "known_disagreement"]

#: What the contract allows, of the largest number of the answer, or of 1.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
EVENTS = 2_000
#: Packets of the stream, as shares of it: single events, few, and many; each size twice, because the second is what
#: runs by the launches that the first one's were captured in.
_SHARES = (0, 0.0005, 0.001, 0.02, 0.04, 0.2, 0.36, 0.68, 1)
_LONGEST_US = 10**12

#: Of these, one takes every network that the engine takes.
_ON_CPU: tuple[EngineClass, ...] = (CountingEngine, CompiledEngine, PacketEngine)

#: What was found, by device, network and rule; weights do not matter.
_known: dict[tuple[str, str, str], str | None] = {}


def known_disagreement(kind: EngineClass, model: GraphNetwork, graph: GraphConfig) -> str | None:
    """As :func:`disagreement`, found once per device, architecture and rule; warns when an engine is found wrong.

    Where there is no memory for it, that is the reason, and the next call tries again.
    """
    parameter = next(model.parameters())
    name = torch.cuda.get_device_name(parameter.device) if parameter.device.type == "cuda" else "cpu"
    key = f"{parameter.device} {name} {parameter.dtype}", architecture_digest(model), str(graph)
    if key in _known:
        return _known[key]
    try:
        reason = _known[key] = disagreement(kind, model, graph)
    except torch.OutOfMemoryError as error:
        reason = f"there is no memory for its self-check: {str(error)[:300]}"
    if reason is not None:
        warnings.warn(f"the engine cuda is not used on {name}: {reason}", stacklevel=2)
    return reason


def disagreement(
    kind: Callable[[GraphNetwork, GraphConfig], Engine], model: GraphNetwork, graph: GraphConfig, count: int = EVENTS
) -> str | None:
    """How an engine's answers differ from those of an engine on the CPU, or None if they do not.

    Args:
        kind: makes the engine from a model and a rule.
        model: on the device where the engine is to run.
        graph: the rule.
        count: events of the stream.

    Raises:
        torch.OutOfMemoryError: there is no memory for it, which says nothing about the engine.
    """
    parameter = next(model.parameters())
    on_cpu = deepcopy(model).cpu()
    reference = next(each for each in _ON_CPU if each.refusal(on_cpu, graph) is None)(on_cpu, graph)
    events = stream(model.sensor, graph, count)
    borders = sorted({round(share * count) for share in _SHARES})
    try:
        engine = kind(model, graph)
        for start, stop in pairwise(borders):
            packet, time = events[start:stop], int(events["t"][stop - 1])
            reference.update(packet)
            engine.update(packet)
            with torch.no_grad():
                expected, found = reference.output(time), engine.output(time).cpu()
            apart = float((found - expected).abs().max()) / max(1.0, float(expected.abs().max()))
            if not apart <= TOLERANCE[parameter.dtype]:  # not a number, too
                return (
                    f"after {stop} events of its self-check its answer is {apart:.3g} of the largest number away from"
                    f" that of the CPU, {TOLERANCE[parameter.dtype]:g} are allowed"
                )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a compiler, a driver or a device has to say
        return f"its self-check failed with {type(error).__name__}: {str(error)[:300]}"
    return None


def stream(sensor: tuple[int, int], graph: GraphConfig, count: int) -> np.ndarray:
    """Events of which half are crowded on few pixels; they last three windows, or twice what an edge may span."""
    rng = np.random.default_rng(0)
    span = 2 * graph.radius / graph.time_scale if graph.window is None else 3.0 * graph.window
    t = np.sort(rng.integers(0, int(min(max(span, 10.0), _LONGEST_US)), count))
    crowded = rng.random(count) < 0.5
    x, y = (np.where(crowded, rng.integers(0, min(8, size), count), rng.integers(0, size, count)) for size in sensor)
    return make_events(t, x, y, rng.integers(0, 2, count))
