"""The parameters of the event detector: one declaration of every name, type, default, range and description."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import Field, dataclass, field, fields
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

__all__ = ["DetectorParameters", "check_changes", "declare_parameters", "read_parameters"]


def _parameter(
    default: str | int | float, description: str, *, limits: tuple[float, float] | None = None, live: bool = False
) -> Any:
    """A field that carries what ROS has to know; ``live`` parameters may change while the node is configured."""
    return field(default=default, metadata={"description": description, "limits": limits, "live": live})


@dataclass(frozen=True)
class DetectorParameters:
    """What a user can set; the descriptions are those that ``ros2 param describe`` shows."""

    model: str = _parameter("scenes_detector", "Name of a packaged model, or path of a .safetensors file")
    device: str = _parameter("cpu", "Where the network runs: cpu, cuda or cuda:<number>")
    frame_id: str = _parameter(
        "", "Frame of everything that is published; empty takes over the frame of the event packets", live=True
    )
    rate: float = _parameter(30.0, "How often results are published [Hz]", limits=(0.1, 1000.0), live=True)
    score_threshold: float = _parameter(
        0.3, "Detections with a lower score are not published", limits=(0.0, 1.0), live=True
    )
    iou_threshold: float = _parameter(
        0.5,
        "Of two boxes of one class that overlap more than this (intersection over union), the better stays",
        limits=(0.0, 1.0),
        live=True,
    )
    max_detections: int = _parameter(100, "Most boxes per message; the best stay", limits=(1, 1000), live=True)
    every_nth: int = _parameter(1, "Keep only every n-th event; 1 keeps all", limits=(1, 1000))
    refractory_us: int = _parameter(
        0,
        "Drop events that follow another one at their pixel within this time [us]; 0 keeps all",
        limits=(0, 1_000_000),
    )
    queue_depth: int = _parameter(
        100, "Event packets that may wait; when more arrive, the oldest are lost and counted", limits=(1, 10_000)
    )
    image_ms: float = _parameter(
        30.0, "How long an event stays in the annotated image [ms]", limits=(1.0, 10_000.0), live=True
    )


_FIELDS = {parameter.name: parameter for parameter in fields(DetectorParameters)}


def declare_parameters(node: Node) -> DetectorParameters:
    """Declare all parameters on ``node`` and return their values.

    Raises:
        rclpy.exceptions.ParameterException: an override is not allowed; ``node`` has to call :func:`check_changes`.
    """
    for name, parameter in _FIELDS.items():
        node.declare_parameter(name, parameter.default, _descriptor(parameter))
    return read_parameters(node)


def read_parameters(node: Node) -> DetectorParameters:
    """The present values of the parameters that :func:`declare_parameters` declared."""
    values: dict[str, Any] = {name: node.get_parameter(name).value for name in _FIELDS}
    for name, parameter in _FIELDS.items():
        if isinstance(parameter.default, float):  # where a whole number is right too
            values[name] = float(values[name])
    return DetectorParameters(**values)


def check_changes(changes: Iterable[Parameter[Any]], configured: bool) -> SetParametersResult:
    """Refuse values of another type or out of range, and changes that a node takes only while it is not configured."""
    for change in changes:
        if change.name not in _FIELDS:
            continue
        parameter = _FIELDS[change.name]
        if configured and not parameter.metadata["live"]:
            reason = (
                f"{change.name} can be changed only while the node is unconfigured: deactivate it and clean it up first"
            )
            return SetParametersResult(successful=False, reason=reason)
        if not _is_right(parameter, change.value):
            reason = f"{change.name} is {change.value!r}, expected {_expectation(parameter)}"
            return SetParametersResult(successful=False, reason=reason)
    return SetParametersResult(successful=True)


def _descriptor(parameter: Field[Any]) -> ParameterDescriptor:
    """What tools show for one field."""
    # ROS would refuse a wrong type by its number; check_changes says which type is right.
    descriptor = ParameterDescriptor(description=parameter.metadata["description"], dynamic_typing=True)
    if not parameter.metadata["live"]:
        descriptor.additional_constraints = "can be changed only while the node is unconfigured"
    if (limits := parameter.metadata["limits"]) is not None:
        low, high = limits
        if isinstance(parameter.default, int):
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
        else:
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    return descriptor


def _is_right(parameter: Field[Any], value: object) -> bool:
    kinds = (int, float) if isinstance(parameter.default, float) else (type(parameter.default),)
    if type(value) not in kinds:
        return False
    limits = parameter.metadata["limits"]
    return limits is None or limits[0] <= value <= limits[1]


def _expectation(parameter: Field[Any]) -> str:
    kind = {str: "a text", int: "a whole number", float: "a number"}[type(parameter.default)]
    limits = parameter.metadata["limits"]
    return kind if limits is None else f"{kind} from {limits[0]} to {limits[1]}"
