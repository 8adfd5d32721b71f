"""The parameters of the event detector: one declaration of every name, type, default, range and description."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import Field, dataclass, field, fields
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

__all__ = ["DetectorParameters", "check_changeable", "declare_parameters", "read_parameters"]


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


def _descriptor(parameter: Field[Any]) -> ParameterDescriptor:
    """What ROS checks and tools show for one field."""
    descriptor = ParameterDescriptor(description=parameter.metadata["description"])
    if not parameter.metadata["live"]:
        descriptor.additional_constraints = "can be changed only while the node is unconfigured"
    if (limits := parameter.metadata["limits"]) is not None:
        low, high = limits
        if isinstance(parameter.default, int):
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
        else:
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    return descriptor


def declare_parameters(node: Node) -> DetectorParameters:
    """Declare all parameters on ``node`` and return their values.

    Raises:
        rclpy.exceptions.ParameterException: an override is out of its range or of the wrong type.
    """
    for parameter in fields(DetectorParameters):
        node.declare_parameter(parameter.name, parameter.default, _descriptor(parameter))
    return read_parameters(node)


def read_parameters(node: Node) -> DetectorParameters:
    """The present values of the parameters that :func:`declare_parameters` declared."""
    return DetectorParameters(**{p.name: node.get_parameter(p.name).value for p in fields(DetectorParameters)})


def check_changeable(changes: Iterable[Parameter[Any]], configured: bool) -> SetParametersResult:
    """Refuse changes of parameters that take effect in the configure transition while the node is configured."""
    fixed = {p.name for p in fields(DetectorParameters) if not p.metadata["live"]}
    if configured and (refused := sorted(fixed & {change.name for change in changes})):
        return SetParametersResult(
            successful=False,
            reason=f"{', '.join(refused)} can be changed only while the node is unconfigured:"
            " deactivate it and clean it up first",
        )
    return SetParametersResult(successful=True)
