# SPDX-License-Identifier: Apache-2.0
"""Play the event packets of a bag through the detector, with the bag's time on /clock.

ros2 launch aegnn_ros replay.launch.py bag:=recording rate:=0.5 loop:=true rviz:=true

Ends with the bag. The other arguments are those of detect.launch.py.
"""

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from aegnn_ros.installed_files import large_packet_profile
from aegnn_ros.launch_arguments import given_options, in_home, is_true
from aegnn_ros.launch_ending import ends_with

ARGUMENTS = {
    "topic": ("", "event topic in the bag; needed where it has several"),
    "rate": ("1.0", "how many times as fast as recorded"),
    "loop": ("false", "whether to start again at the end"),
    "events": ("/event_camera/events", "topic to play on"),
}


def check(context: LaunchContext) -> list[Action]:
    """Refuse a wrong argument before anything starts: launch would leave the detector behind."""
    is_true("loop", LaunchConfiguration("loop").perform(context))
    return []


def player(context: LaunchContext) -> list[Action]:
    """What plays the bag."""
    # The namespace is an argument of detect.launch.py, and a relative topic is below it.
    value = {name: LaunchConfiguration(name).perform(context) for name in ("bag", *ARGUMENTS, "namespace")}
    value = in_home(value, ["bag"])
    options = given_options({name: value[name] for name in ("rate", "topic")})
    if is_true("loop", value["loop"]):
        options.append("--loop")
    return [
        Node(
            package="aegnn_ros",
            executable="play_events",
            namespace=value["namespace"],
            arguments=[value["bag"], *options],
            remappings=[("/event_camera/events", value["events"])],
            output="screen",
            on_exit=ends_with("play_events", "the bag is over"),
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Arguments, environment, detector and player."""
    detect = Path(__file__).with_name("detect.launch.py")
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="folder of a rosbag2 with event packets"),
            *(DeclareLaunchArgument(n, default_value=d, description=text) for n, (d, text) in ARGUMENTS.items()),
            *(SetEnvironmentVariable(name, value) for name, value in large_packet_profile().items()),
            OpaqueFunction(function=check),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(detect)),
                launch_arguments={"events": LaunchConfiguration("events"), "use_sim_time": "true"}.items(),
            ),
            OpaqueFunction(function=player),
        ]
    )
