# SPDX-License-Identifier: Apache-2.0
"""Networks by name: the package's own, and those that other packages add."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_type_hints

from torch import nn

from aegnn_core.nn.event_network import EventNetwork
from aegnn_core.nn.option_values import described, fits
from aegnn_core.nn.own_networks import DATASETS, OWN_NETWORKS, TASKS
from aegnn_core.nn.user_network import UserNetwork
from aegnn_core.registry import Registry

__all__ = ["DATASETS", "NETWORKS", "check_options", "is_own", "network", "network_options", "reads_edges"]

#: What makes each network. It is called with what it names of ``size``, ``sensor``, ``task``, ``num_classes`` and
#: ``dim``, and with the options that its user chooses; what it gives is a
#: :class:`aegnn_core.nn.graph_network.GraphNetwork`, or any module that a
#: :class:`aegnn_core.nn.user_network.UserNetwork` can hold.
NETWORKS: Registry[Callable[..., nn.Module]] = Registry("network", "aegnn_core.networks", OWN_NETWORKS)

#: The parameters of what makes a network that are not options.
_GIVEN = ("size", "sensor", "task", "num_classes", "dim")

#: Names that no option can have, because :func:`network` has them.
_TAKEN = ("name", "dataset", *_GIVEN)

#: The sizes for a data set that the papers have none for.
_OTHER_SIZES = DATASETS["simulated"]


def is_own(name: str) -> bool:
    """Whether a network is one of this package's."""
    return name in OWN_NETWORKS


def network_options(name: str) -> dict[str, inspect.Parameter]:
    """The options of a network by their names; one that takes any has the name ``**``."""
    parameters = _parameters(name)
    return {"**" if p.kind is p.VAR_KEYWORD else key: p for key, p in parameters.items() if key not in _GIVEN}


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise a ``ValueError`` unless a network has all ``options``, and these values are of the kinds that it takes.

    Of another package's network, a switch for a number and the other way round: in YAML, ``yes`` is a switch, which
    computes like a 1.
    """
    takes = network_options(name)
    known = [option for option in takes if option not in _TAKEN]
    unknown = {option for option in options if option in _TAKEN or ("**" not in known and option not in known)}
    if unknown:
        found = ", ".join(sorted(unknown))[:300]
        raise ValueError(f"network {name} has no option {found}, known are {', '.join(known) or 'none'}")
    kinds = get_type_hints(NETWORKS[name]) if is_own(name) else {}
    for option, value in options.items():
        kind = kinds[option] if option in kinds else _kind_of_default(takes.get(option), value)
        if not fits(value, kind):
            raise ValueError(f"option {option} of network {name} is {repr(value)[:100]}, expected {described(kind)}")


def _kind_of_default(parameter: inspect.Parameter | None, value: Any) -> Any:
    """``bool`` or ``float`` where the default of an option and its value are switches or numbers, otherwise any."""
    numbers = (int, float)  # and switches
    default = None if parameter is None else parameter.default
    if not isinstance(default, numbers) or not isinstance(value, numbers):
        return object
    return bool if isinstance(default, bool) else float


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    make = NETWORKS[name]
    if not callable(make):
        raise ValueError(f"network {name} is {type(make).__name__}, expected a call that makes a torch.nn.Module")
    return inspect.signature(make).parameters


def reads_edges(name: str) -> bool:
    """Whether a network looks at edges, as they all do unless ``reads_edges = False`` stands on what makes them."""
    return name not in NETWORKS or getattr(NETWORKS[name], "reads_edges", True) is not False


def network(
    name: str,
    *,
    dataset: str | None = None,
    task: str = "recognition",
    num_classes: int | None = None,
    sensor: Sequence[int] | None = None,
    dim: int = 3,
    **options: Any,
) -> EventNetwork:
    """A new network with random weights, in evaluation mode (call ``train()`` to train it).

    Args:
        name: a key of :data:`NETWORKS`.
        dataset: gives sensor, sizes and number of classes: a key of :data:`DATASETS`. Without one, the sizes are those
            for simulated scenes.
        task: ``"recognition"`` or ``"detection"``.
        num_classes: overrides the data set's number.
        sensor: width and height [px], overrides the data set's.
        dim: components of the edge attributes in use, 2 (image plane) or 3 (and time).
        options: of the network by that name, such as ``voxel`` or ``least_ages``.

    Raises:
        ValueError: unknown network, data set, task or option, or a data set without that task; the message lists what
            there is. Or a network of another package that cannot be made, or gives something else than such networks.
    """
    for what, value, known in (("network", name, NETWORKS), ("data set", dataset, DATASETS), ("task", task, TASKS)):
        if value is not None and value not in known:
            raise ValueError(f"unknown {what} {repr(value)[:300]}, known are {', '.join(known)}")
    if dataset is None and (sensor is None or num_classes is None):
        raise ValueError("a network needs a dataset, or else both sensor and num_classes")
    size = _OTHER_SIZES if dataset is None else DATASETS[dataset]
    if num_classes is None:
        if task not in size.classes:
            raise ValueError(f"data set {dataset} has no labels for {task}, only for {', '.join(size.classes)}")
        num_classes = size.classes[task]
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, found {num_classes}")
    if dim not in (2, 3):
        raise ValueError(f"dim must be 2 or 3, found {dim}")
    if sensor is not None:
        if len(sensor) != 2 or not all(fits(side, int) and side >= 1 for side in sensor):
            raise ValueError(f"sensor must be a width and a height of at least 1 px, whole numbers, found {sensor}")
        size = replace(size, sensor=(int(sensor[0]), int(sensor[1])))
    check_options(name, options)
    given = dict(zip(_GIVEN, (size, size.sensor, task, num_classes, dim), strict=True))
    given = {key: given[key] for key in _parameters(name) if key in given}
    made = _made(name, given, options)
    if not isinstance(made, EventNetwork):
        made = UserNetwork(made, size.sensor, task, num_classes)
    return made.eval()


def _made(name: str, given: dict[str, Any], options: dict[str, Any]) -> nn.Module:
    """What makes a network, called; if that gives a module."""
    try:
        made = NETWORKS[name](**given, **options)
    except Exception as error:  # of any kind, as other code than this package's may raise
        if is_own(name) and isinstance(error, ValueError):
            raise  # it says what is wrong
        shown = options if is_own(name) else {**given, **options}
        listed = ", ".join(f"{key}={repr(value)[:100]}" for key, value in shown.items())
        raise ValueError(f"network {name}({listed}) cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise ValueError(f"network {name} is {type(made).__name__}, expected a torch.nn.Module")
    return made
