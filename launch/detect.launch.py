# SPDX-License-Identifier: Apache-2.0
"""Start the event detector and bring it to active; with RViz on demand.

ros2 launch aegnn_ros detect.launch.py events:=/event_camera/events rviz:=true
"""

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

from aegnn_ros.installed_files import large_packet_profile, share_file
from aegnn_ros.launch_arguments import existing_file, in_home, is_true, parameters_of_nodes

ARGUMENTS = {
    "events": ("/event_camera/events", "topic of the camera's event packets"),
    "camera_info": ("", "topic of the camera's calibration; empty: ~/camera_info below the node's name"),
    "model": ("", "name of a packaged model or path of a .safetensors file; empty: as in params_file"),
    "trust_code": ("", "true: import another package's network that the model file names; empty: as in params_file"),
    "device": ("", "where the network runs: cpu, cuda, cuda:<number> or auto; empty: as in params_file"),
    "model_sensor": (
        "",
        "sensor that the network runs on: filled, trained, double or camera; empty: as in params_file",
    ),
    "downsampling": ("", "of a camera with more pixels: trained, integrate or coordinates; empty: as in params_file"),
    "frame_id": (
        "",
        "frame of what is published, and RViz's fixed frame; empty: as in params_file, and event_camera in RViz",
    ),
    "params_file": (str(share_file("config/detect.yaml")), "YAML file with the node's parameters"),
    "namespace": ("", "of the node"),
    "name": ("event_detector", "of the node; its topics lie below it"),
    "use_sim_time": ("false", "whether ROS time comes from /clock"),
    "rviz": ("false", "whether to open RViz with the annotated image and the boxes"),
}

#: Arguments that are the node's parameters, where they are given.
PARAMETERS = ("model", "device", "model_sensor", "downsampling", "frame_id")

#: Those of them that are true or false.
SWITCHES = ("trust_code",)

#: Arguments that are files, or may be.
FILES = ("model", "params_file")

#: What config/detect.rviz shows of a node /event_detector.
RVIZ_TOPICS = ("annotated_image", "markers")


def detector(context: LaunchContext) -> list[Action]:
    """The node and its way to active, and RViz."""
    value = in_home({name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}, FILES)
    sim_time = {"use_sim_time": is_true("use_sim_time", value["use_sim_time"])}
    parameters = sim_time | {n: value[n] for n in PARAMETERS if value[n]}
    parameters |= {n: is_true(n, value[n]) for n in SWITCHES if value[n]}
    params_file = existing_file("params_file", value["params_file"])
    node = LifecycleNode(
        package="aegnn_ros",
        executable="event_detector",
        name=value["name"],
        namespace=value["namespace"],
        parameters=[params_file, parameters_of_nodes(params_file, [value["name"]], parameters)],
        remappings=[(f"~/{topic}", value[topic]) for topic in ("events", "camera_info") if value[topic]],
        output="screen",
    )
    configure = EmitEvent(event=transition(node, Transition.TRANSITION_CONFIGURE))
    activate = OnStateTransition(
        target_lifecycle_node=node,
        start_state="configuring",
        goal_state="inactive",
        entities=[EmitEvent(event=transition(node, Transition.TRANSITION_ACTIVATE))],
    )
    topics = "/".join(["", *filter(None, value["namespace"].split("/")), value["name"]])
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(share_file("config/detect.rviz")), "-f", value["frame_id"] or "event_camera"],
        remappings=[(f"/event_detector/{topic}", f"{topics}/{topic}") for topic in RVIZ_TOPICS],
        parameters=[sim_time],
    )
    windows = [rviz] if is_true("rviz", value["rviz"]) else []
    return [RegisterEventHandler(activate), node, configure, *windows]


def transition(node: LifecycleNode, number: int) -> ChangeState:
    """The event that makes ``node`` change its state."""
    return ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=number)


def generate_launch_description() -> LaunchDescription:
    """Arguments, environment and nodes."""
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(n, default_value=d, description=text) for n, (d, text) in ARGUMENTS.items()),
            *(SetEnvironmentVariable(name, value) for name, value in large_packet_profile().items()),
            OpaqueFunction(function=detector),
        ]
    )
