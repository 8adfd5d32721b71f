# SPDX-License-Identifier: Apache-2.0
"""The parameters of the event detector: one declaration of every name, type, default, range and description."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from enum import Enum
from importlib.util import find_spec
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from aegnn_core.asynchronous.threads import MOST_THREADS
from aegnn_core.events.event_array_topics import EVENT_ARRAY_TYPES
from aegnn_core.events.recorded_packet import EVENT_PACKET_TYPE
from aegnn_core.extras import missing_package
from aegnn_core.nn.model_sensor import MODEL_SENSORS
from aegnn_ros.detector.camera_filters import Region
from aegnn_ros.detector.ready_model import DOWNSAMPLING_CHOICES, MAX_NODES, Bound
from aegnn_ros.detector.tracking import CONTINUING_SCORE

__all__ = [
    "Change",
    "DetectorParameters",
    "check_changes",
    "declare_parameters",
    "default_parameters",
    "parameter_name",
    "read_parameters",
    "unknown_parameters",
]


#: Types of the messages that hold events.
EVENT_TYPES = (EVENT_PACKET_TYPE, *EVENT_ARRAY_TYPES)


class Change(Enum):
    """When a new value of a parameter is taken; the text is what users read."""

    UNCONFIGURED = "only while the node is unconfigured"
    MODEL = "at any time; taken by configure and by the service ~/reload_model"
    LIVE = "at any time"


def _parameter(
    default: str | int | float | bool | tuple[int, ...],
    description: str,
    *,
    limits: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
    change: Change = Change.LIVE,
    name: str = "",
) -> Any:
    """A field that carries what ROS has to know; ``name`` is the parameter's where a field cannot have it."""
    metadata = {"description": description, "limits": limits, "choices": choices, "change": change, "name": name}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class DetectorParameters:
    """What a user can set; the descriptions are those that ``ros2 param describe`` shows."""

    model: str = _parameter(
        "scenes_detector",
        "Name of a packaged model, or path of a .safetensors file, which may begin with ~/",
        change=Change.MODEL,
    )
    trust_code: bool = _parameter(
        False,
        "Whether the node imports the code of a network of another package, where the model file names one by its path"
        " package.module:Name; without that, such a file is refused",
        change=Change.MODEL,
    )
    device: str = _parameter(
        "cpu",
        "Where the network runs: cpu, cuda, cuda:<number>, or auto for a GPU that passes its self-check if the network"
        " is large, otherwise the CPU",
        change=Change.MODEL,
    )
    threads: int = _parameter(
        0,
        "Threads that work on the events of a packet, or on a detector's answer, on the CPU; 0: what AEGNN_THREADS"
        " says, or as many as there are cores that the node may use, less one, at most 8",
        limits=(0, MOST_THREADS),
        change=Change.MODEL,
    )
    model_sensor: str = _parameter(
        MODEL_SENSORS[0],
        "Sensor that the network runs on: that of its training, to which the camera's events are downsampled, made"
        " longer where the camera's picture is; just that of its training; double, with twice as many pixels a side,"
        " for small objects, at four times the cost of an answer; or the camera's own. Another one than that of its"
        " training is for networks whose layers are the same in every place; filled and double leave others on theirs",
        choices=MODEL_SENSORS,
        change=Change.MODEL,
    )
    max_nodes: int = _parameter(
        MAX_NODES,
        "Most events in the graph of a model that has neither a window nor max_nodes of its own; the oldest leave",
        limits=(1, 10_000_000),
        change=Change.MODEL,
    )
    window_ms: float = _parameter(
        0.0,
        "How long an event stays in the graph of such a model [ms], instead of max_nodes; 0: max_nodes counts",
        limits=(0.0, 3_600_000.0),
        change=Change.MODEL,
    )
    frame_id: str = _parameter("", "Frame of everything that is published; empty for the frame of the event packets")
    events_type: str = _parameter(
        EVENT_TYPES[0],
        "Type of the messages on ~/events; event arrays, which many DAVIS drivers publish, need their message package",
        choices=EVENT_TYPES,
        change=Change.UNCONFIGURED,
    )
    trigger: str = _parameter(
        "rate",
        "When results are published: at a rate, after every events_per_result events, or after every packet",
        choices=("rate", "events", "packet"),
    )
    rate: float = _parameter(
        30.0, "How often results are published [Hz, ROS time], where trigger is rate", limits=(0.1, 1000.0)
    )
    events_per_result: int = _parameter(
        10_000,
        "Events of the camera between two results, where trigger is events; packets are not divided",
        limits=(1, 100_000_000),
    )
    max_latency_ms: float = _parameter(
        50.0,
        "Time from a packet's arrival within which it is processed [ms]; events that do not fit into it are thinned",
        limits=(5.0, 10_000.0),
    )
    score_threshold: float = _parameter(
        0.3,
        "Detections with a lower score are not published; with tracking, those that continue a track are, down to a"
        f" score of {CONTINUING_SCORE:g}",
        limits=(0.0, 1.0),
    )
    iou_threshold: float = _parameter(
        0.5,
        "Of two boxes of one class that overlap by more than this (intersection over union), the better one stays",
        limits=(0.0, 1.0),
    )
    max_detections: int = _parameter(100, "Most boxes per message; the best stay", limits=(1, 1000))
    region_of_interest: tuple[int, ...] = _parameter(
        (0, 0, 0, 0),
        "Left column, upper row, width and height [px] of the part of the sensor that the model looks at, scaled to the"
        " model's sensor; no width and height: all of it",
        limits=(0, 65_535),
    )
    downsampling: str = _parameter(
        DOWNSAMPLING_CHOICES[0],
        "How events of a camera with more pixels are brought to the model's sensor: as for the model's training, by"
        " pixels that integrate, as larger photodiodes would, or coordinates alone; a change empties the graph",
        choices=DOWNSAMPLING_CHOICES,
    )
    undistort: bool = _parameter(
        False,
        "Whether boxes of detections are those of the rectified image, by the calibration on ~/camera_info; markers"
        " always are",
    )
    tracking: bool = _parameter(
        False,
        "Whether detections are tracked over time (ByteTrack): smoother boxes and stable ids. A track begins with a"
        f" score of score_threshold, and goes on with boxes from {CONTINUING_SCORE:g} on, which are published, too",
    )
    image_ms: float = _parameter(30.0, "How long an event stays in the annotated image [ms]", limits=(1.0, 10_000.0))
    classes: str = _parameter(
        "",
        "Names of the classes whose boxes are published, separated by commas; empty: all. Classification has all",
    )
    noise_filter_us: int = _parameter(
        0,
        "Drop events that no event at the eight pixels around precedes within this time [us], as noise; 0 keeps all",
        limits=(0, 1_000_000),
    )
    pixel_rate_hz: int = _parameter(
        0,
        "Most events per second of each pixel of the camera, against hot pixels and flicker; 0 keeps all",
        limits=(0, 1_000_000),
    )
    every_nth: int = _parameter(
        1, "Keep only every n-th event; 1 keeps all", limits=(1, 1000), change=Change.UNCONFIGURED
    )
    refractory_us: int = _parameter(
        0,
        "Drop events that follow another one at their pixel within this time [us]; 0 keeps all",
        limits=(0, 1_000_000),
        change=Change.UNCONFIGURED,
    )
    diagnostics_period: float = _parameter(
        1.0,
        "Time between two statuses on /diagnostics [s], as of nodes with ROS's diagnostic_updater",
        limits=(0.1, 60.0),
        name="diagnostic_updater.period",
    )
    diagnostics_use_fqn: bool = _parameter(
        True,
        "Whether the name of the status begins with the node's namespace, as of nodes with ROS's diagnostic_updater,"
        " where it does not by default",
        change=Change.UNCONFIGURED,
        name="diagnostic_updater.use_fqn",
    )
    autostart: bool = _parameter(
        False, "Whether the node configures and activates itself when it starts", change=Change.UNCONFIGURED
    )
    queue_depth: int = _parameter(
        100,
        "Event packets that ROS keeps for the node; if more arrive before the node takes them, the oldest are lost",
        limits=(1, 10_000),
        change=Change.UNCONFIGURED,
    )
    queue_mb: float = _parameter(
        32.0,
        "Memory for packets that the node has taken but not decoded yet [MB]; if more come, the oldest are dropped",
        limits=(0.1, 10_000.0),
        change=Change.UNCONFIGURED,
    )

    @property
    def class_names(self) -> frozenset[str]:
        """The classes whose boxes are published, none for all."""
        return frozenset(name.strip() for name in self.classes.split(",") if name.strip())

    @property
    def lowest_score(self) -> float:
        """The score from which on a box can be published."""
        return min(self.score_threshold, CONTINUING_SCORE) if self.tracking else self.score_threshold

    @property
    def bound(self) -> Bound:
        """What bounds the graph of a model that has no bound of its own."""
        return Bound(self.max_nodes, round(1000 * self.window_ms) or None)

    @property
    def region(self) -> Region | None:
        """The region of interest, or None for the whole sensor."""
        left, top, width, height = self.region_of_interest
        return (left, top, width, height) if width and height else None


def parameter_name(parameter: Field[Any]) -> str:
    """The name that ROS knows a field of :class:`DetectorParameters` by."""
    return parameter.metadata["name"] or parameter.name


#: By the names that ROS knows.
_FIELDS = {parameter_name(parameter): parameter for parameter in fields(DetectorParameters)}
#: Beginnings of the names of parameters that ROS declares when something else is made, such as a subscription.
_DECLARED_LATER = ("qos_overrides.",)


def default_parameters() -> dict[str, Any]:
    """All parameters with their defaults, by the names that ROS knows."""
    return {name: parameter.default for name, parameter in _FIELDS.items()}


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
    # A whole number is right for a float too, and ROS has arrays.
    values = {field.name: _kind(field)(node.get_parameter(name).value) for name, field in _FIELDS.items()}
    return DetectorParameters(**values)


def unknown_parameters(node: Node) -> str:
    """What was set for ``node`` in a file or on the command line and is none of its parameters, as a list to read.

    ROS ignores such names without a word, so that a misspelt one leaves its parameter at the default.
    """
    # rclpy keeps them for itself; a distribution that calls them otherwise says nothing, as before.
    overrides: dict[str, Any] = getattr(node, "_parameter_overrides", {})
    unknown = [name for name in overrides if not node.has_parameter(name) and not name.startswith(_DECLARED_LATER)]
    return ", ".join(_with_neighbour(name) for name in sorted(unknown))


def _with_neighbour(name: str) -> str:
    """The name, and the parameter that was perhaps meant."""
    close = get_close_matches(name, _FIELDS, 1)
    return f"{name[:100]} (perhaps {close[0]})" if close else name[:100]


def check_changes(changes: Iterable[Parameter[Any]], in_use: DetectorParameters | None) -> SetParametersResult:
    """Refuse values of another type or out of range, and changes that a node takes only while it is not configured.

    Args:
        changes: new values, some of them perhaps the present ones, as where a file with all of them is loaded.
        in_use: the parameters of a node that is configured; None of one that is not.
    """
    for change in changes:
        if change.name not in _FIELDS:
            continue
        parameter = _FIELDS[change.name]
        fixed = in_use is not None and parameter.metadata["change"] is Change.UNCONFIGURED
        if fixed and change.value != getattr(in_use, parameter.name):
            reason = (
                f"{change.name} can be changed only while the node is unconfigured: deactivate it and clean it up first"
            )
            return SetParametersResult(successful=False, reason=reason)
        if not _is_right(parameter, change.value):
            reason = f"{change.name} is {_shown(change.value)}, expected {_expectation(parameter)}"
            return SetParametersResult(successful=False, reason=reason)
        if change.name == "tracking" and change.value and find_spec("edgefirst") is None:
            reason = f"tracking is true, but {missing_package('edgefirst')}"
            return SetParametersResult(successful=False, reason=reason)
    return SetParametersResult(successful=True)


def _descriptor(parameter: Field[Any]) -> ParameterDescriptor:
    """What tools show for one field."""
    # ROS would refuse a wrong type by its number; check_changes says which type is right.
    descriptor = ParameterDescriptor(description=parameter.metadata["description"], dynamic_typing=True)
    constraints = []
    if choices := parameter.metadata["choices"]:
        constraints.append(f"one of {', '.join(choices)}")
    if parameter.metadata["change"] is not Change.LIVE:
        constraints.append(f"can be changed {parameter.metadata['change'].value}")
    descriptor.additional_constraints = "; ".join(constraints)
    if (limits := parameter.metadata["limits"]) is not None:
        low, high = limits
        if isinstance(parameter.default, int | tuple):
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
        else:
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    return descriptor


def _kind(parameter: Field[Any]) -> type[Any]:
    return type(parameter.default)


def _is_right(parameter: Field[Any], value: Any) -> bool:
    default, limits, choices = parameter.default, parameter.metadata["limits"], parameter.metadata["choices"]
    if isinstance(default, tuple):
        if isinstance(value, str | bytes) or not hasattr(value, "__len__") or len(value) != len(default):
            return False
        numbers = list(value)
    else:
        numbers = [value]
    kinds = (int, float) if isinstance(default, float) else (int if isinstance(default, tuple) else _kind(parameter),)
    if any(type(number) not in kinds for number in numbers):
        return False
    if choices and value not in choices:
        return False
    return limits is None or all(limits[0] <= number <= limits[1] for number in numbers)


def _shown(value: Any) -> str:
    return repr(list(value)) if hasattr(value, "tolist") else repr(value)


def _expectation(parameter: Field[Any]) -> str:
    kind = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    limits, choices = parameter.metadata["limits"], parameter.metadata["choices"]
    if choices:
        return f"one of {', '.join(choices)}"
    if isinstance(parameter.default, tuple):
        return f"{len(parameter.default)} whole numbers from {limits[0]} to {limits[1]}"
    expected = kind[_kind(parameter)]
    return expected if limits is None else f"{expected} from {limits[0]} to {limits[1]}"
