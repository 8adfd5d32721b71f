# SPDX-License-Identifier: Apache-2.0
"""Start event detectors for several cameras in one process, each with its own state, and bring them to active.

ros2 launch aegnn_ros multi.launch.py names:="left right" events:="/left/events /right/events"

Each camera's node is called after it. Parameters that differ from camera to camera stand below the node's name in the
parameter file.
"""

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from aegnn_ros.installed_files import large_packet_profile, share_file
from aegnn_ros.launch_arguments import existing_file, in_home, is_true, parameters_of_nodes

ARGUMENTS = {
    "names": ("left right", "of the nodes, one per camera"),
    "events": ("", "topics of the event packets, one per node; empty: /<name>/event_camera/events"),
    "model": ("", "of all nodes: a packaged model or a path of a .safetensors file; empty: as in params_file"),
    "trust_code": ("", "true: import another package's network that the model file names; empty: as in params_file"),
    "device": ("", "where the networks run: cpu, cuda, cuda:<number> or auto; empty: as in params_file"),
    "params_file": (str(share_file("config/detect.yaml")), "YAML file with the nodes' parameters"),
    "namespace": ("", "of all nodes"),
    "use_sim_time": ("false", "whether ROS time comes from /clock"),
}

#: Arguments that are files, or may be.
FILES = ("model", "params_file")


def detectors(context: LaunchContext) -> list[Action]:
    """One process with a node per name."""
    value = in_home({name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}, FILES)
    names = value["names"].split()
    topics = value["events"].split() or [f"/{name}/event_camera/events" for name in names]
    if not names or len(topics) != len(names):
        raise RuntimeError(f"multi.launch.py: {len(names)} names and {len(topics)} event topics, expected one per name")
    if len(set(names)) < len(names):
        raise RuntimeError(f"multi.launch.py: names are {' '.join(names)!r}, expected another name for each node")
    # launch drives the life cycle of one node per process, so these do it themselves.
    parameters = {"autostart": True, "use_sim_time": is_true("use_sim_time", value["use_sim_time"])}
    parameters |= {n: value[n] for n in ("model", "device") if value[n]}
    parameters |= {n: is_true(n, value[n]) for n in ("trust_code",) if value[n]}
    params_file = existing_file("params_file", value["params_file"])
    return [
        Node(
            package="aegnn_ros",
            executable="event_detector",
            namespace=value["namespace"],
            arguments=names,
            parameters=[params_file, parameters_of_nodes(params_file, names, parameters)],
            remappings=[(f"{name}:~/events", topic) for name, topic in zip(names, topics, strict=True)],
            output="screen",
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Arguments, environment and nodes."""
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(n, default_value=d, description=text) for n, (d, text) in ARGUMENTS.items()),
            *(SetEnvironmentVariable(name, value) for name, value in large_packet_profile().items()),
            OpaqueFunction(function=detectors),
        ]
    )
