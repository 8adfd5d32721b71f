# SPDX-License-Identifier: Apache-2.0
"""What launch files do with their arguments, checked also where ``ros2 launch`` is not installed."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest
import rclpy
from rclpy.node import Node

from aegnn_ros.launch_arguments import existing_file, given_options, in_home, is_true, parameters_of_nodes


def test_flags_are_true_or_false() -> None:
    assert is_true("loop", "True")
    assert not is_true("loop", "false")
    with pytest.raises(ValueError, match="loop is 'yes', expected true or false"):
        is_true("loop", "yes")


def test_parameter_files_have_to_be_there(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("")
    assert existing_file("params_file", str(tmp_path / "a.yaml")) == str(tmp_path / "a.yaml")
    with pytest.raises(ValueError, match=r"params_file is '.*b\.yaml', where no file is, expected a YAML file"):
        existing_file("params_file", str(tmp_path / "b.yaml"))


def test_files_may_begin_with_a_home_and_topics_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    values = {"bag": "~/drive", "model": "scenes_detector", "output": "", "params_file": "~root/a.yaml"}
    values |= {"events": "~/events", "topic": "~/events"}
    found = in_home(values, ("bag", "model", "output", "params_file"))
    root = pwd.getpwnam("root").pw_dir
    assert found == values | {"bag": f"{tmp_path}/drive", "params_file": f"{root}/a.yaml"}


def test_arguments_that_are_empty_are_left_to_the_command() -> None:
    values = {"topic": "", "model_sensor": "double", "downsampling": ""}
    assert given_options(values) == ["--model-sensor", "double"]


@pytest.mark.parametrize("namespace", ["", "robot"])
@pytest.mark.parametrize(
    "sections",
    [
        ["/**"],
        ["/**", "left"],
        ["/**", "/robot/left"],
        ["/**", "/*/left"],
        ["/left", "/**"],
        ["/robot/left", "/**"],
        ["/left", "/*"],
        ["/robot/left", "/*/*"],
        ["/**/left", "/**"],
        ["/**/**/left", "/**/left", "/**"],
    ],
    ids=" ".join,
)
def test_parameters_of_nodes_win_over_every_section_of_a_file(
    tmp_path: Path, namespace: str, sections: list[str]
) -> None:
    file = tmp_path / "settings.yaml"
    theirs = "ros__parameters: {model: theirs, use_sim_time: false}"
    file.write_text("".join(f"{section}:\n  {theirs}\n" for section in sections))
    model = 'a "path": größer'
    own = parameters_of_nodes(str(file), ["left", "right"], {"model": model, "use_sim_time": True})
    try:
        files = ("--params-file", str(file), "--params-file", own)
        rclpy.init(args=["--ros-args", "-r", f"__ns:=/{namespace}", *files])
        for name, set_for_it in (("left", True), ("right", True), ("other", False)):
            node = Node(name)
            node.declare_parameter("model", "")
            assert (node.get_parameter("model").value == model) is set_for_it
            assert node.get_parameter("use_sim_time").value is set_for_it
            node.destroy_node()
    finally:
        rclpy.try_shutdown()
        Path(own).unlink()
