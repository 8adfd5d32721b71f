# SPDX-License-Identifier: Apache-2.0
"""Play a bag through the detector at several rates and compare with the bag's labels.

ros2 launch aegnn_ros evaluate.launch.py bag:=recording model:=scenes_detector output:=report

The command starts and stops the detector itself, once per rate, in a ROS domain of its own.
"""

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from aegnn_ros.launch_arguments import given_options, in_home, is_true
from aegnn_ros.launch_ending import ends_with

ARGUMENTS = {
    "topic": ("", "event topic in the bag; needed where it has several"),
    "labels": (
        "",
        "topic with true boxes (Detection2DArray) or classes (Classification); empty: /labels where the bag has it",
    ),
    "model": ("scenes_detector", "name of a packaged model, or path of a .safetensors file"),
    "trust_code": ("false", "true: import another package's network that the model file names"),
    "device": ("cpu", "where the network runs"),
    "downsampling": (
        "",
        "of a camera with more pixels: integrate or coordinates; empty: as for the model's training",
    ),
    "model_sensor": ("filled", "sensor that the network runs on: filled, trained, double or camera"),
    "rates": ("1 2 5 10", "how many times as fast as recorded"),
    "output": (".", "folder for evaluation.json and evaluation.png"),
}


def evaluation(context: LaunchContext) -> list[Action]:
    """The command."""
    value = {name: LaunchConfiguration(name).perform(context) for name in ("bag", *ARGUMENTS)}
    value = in_home(value, ("bag", "model", "output"))
    named = ("topic", "labels", "model", "device", "downsampling", "model_sensor", "output")
    options = given_options({name: value[name] for name in named})
    if is_true("trust_code", value["trust_code"]):
        options.append("--trust-code")
    return [
        Node(
            package="aegnn_ros",
            executable="evaluate_bag",
            arguments=[value["bag"], *options, "--rates", *value["rates"].split()],
            output="screen",
            on_exit=ends_with("evaluate_bag", "the evaluation is over"),
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Arguments and command."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="folder of a rosbag2 with event packets"),
            *(DeclareLaunchArgument(n, default_value=d, description=text) for n, (d, text) in ARGUMENTS.items()),
            OpaqueFunction(function=evaluation),
        ]
    )
