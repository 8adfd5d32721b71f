# SPDX-License-Identifier: Apache-2.0
"""The files beside the code agree with it, and are found where they are installed."""

from __future__ import annotations

import json
import re
import site
import subprocess
import sys
import sysconfig
from dataclasses import fields
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rclpy
import yaml
from rclpy.parameter import Parameter

from aegnn_ros.detector.detector_node import EventDetector
from aegnn_ros.detector.detector_process import run
from aegnn_ros.detector.parameters import DetectorParameters, check_changes, default_parameters
from aegnn_ros.installed_files import large_packet_profile, share_file
from docs.node_reference import main as node_reference
from docs.node_reference import reference
from tests.conftest import claimed_ros_domain

ROOT = Path(__file__).parents[3]


def test_the_parameter_file_holds_every_parameter_with_its_default() -> None:
    content = yaml.safe_load((ROOT / "config" / "detect.yaml").read_text())
    defaults = default_parameters()
    defaults["region_of_interest"] = list(defaults["region_of_interest"])  # YAML has no tuples
    assert content == {"/**": {"ros__parameters": defaults}}


def test_defaults_lie_in_their_ranges_and_everything_is_described() -> None:
    for parameter in fields(DetectorParameters):
        assert len(parameter.metadata["description"]) > 10
        if limits := parameter.metadata["limits"]:
            assert limits[0] <= np.min(parameter.default)
            assert np.max(parameter.default) <= limits[1]
        if choices := parameter.metadata["choices"]:
            assert parameter.default in choices


def test_rviz_shows_the_image_and_the_markers_of_the_node() -> None:
    content = yaml.safe_load((ROOT / "config" / "detect.rviz").read_text())
    topics = {d["Class"]: d["Topic"]["Value"] for d in content["Visualization Manager"]["Displays"] if "Topic" in d}
    assert topics == {
        "rviz_default_plugins/Image": "/event_detector/annotated_image",
        "rviz_default_plugins/MarkerArray": "/event_detector/markers",
    }


def test_a_ros_prefix_comes_before_the_source_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "share" / "aegnn_ros" / "config" / "detect.yaml"
    installed.parent.mkdir(parents=True)
    installed.touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path}")
    assert share_file("config/detect.yaml") == installed


def test_what_pip_has_installed_for_a_user_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "share" / "aegnn_ros" / "config" / "detect.yaml"
    installed.parent.mkdir(parents=True)
    installed.touch()
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    monkeypatch.setattr(sys, "prefix", "/nowhere")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: "/nowhere")
    monkeypatch.setattr(site, "USER_BASE", str(tmp_path))
    assert share_file("config/detect.yaml") != installed  # in a virtual environment, a user's packages do not count
    monkeypatch.setattr(site, "ENABLE_USER_SITE", True)
    assert share_file("config/detect.yaml") == installed


def test_a_missing_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"config/none\.yaml of aegnn_ros is in none of "):
        share_file("config/none.yaml")


@pytest.mark.parametrize(
    ("distribution", "variable"),
    [("jazzy", "FASTRTPS_DEFAULT_PROFILES_FILE"), (None, "FASTDDS_DEFAULT_PROFILES_FILE")],
)
def test_the_profile_for_large_packets_is_set_for_the_fast_dds_of_the_distribution(
    distribution: str | None, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "ROS_DISTRO"):
        monkeypatch.delenv(name, raising=False)
    if distribution:
        monkeypatch.setenv("ROS_DISTRO", distribution)
    ((name, path),) = large_packet_profile().items()
    assert name == variable
    assert ElementTree.parse(path).getroot().tag.endswith("dds")
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "the user's")
    assert large_packet_profile() == {}


def test_the_nodes_page_says_what_the_code_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert node_reference([str(ROOT / "docs" / "node.md"), "--check"]) == 0, capsys.readouterr().err


def test_a_page_that_is_not_what_the_code_says_is_noticed_and_renewed(tmp_path: Path) -> None:
    page = tmp_path / "node.md"
    page.write_text((ROOT / "docs" / "node.md").read_text().replace("`score_threshold` | float", "`score` | float"))
    assert node_reference([str(page), "--check"]) == 1
    assert node_reference([str(page)]) == 0
    assert page.read_text() == (ROOT / "docs" / "node.md").read_text()


def test_a_page_without_its_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "node.md"
    page.write_text("nothing")
    assert node_reference([str(page)]) == 1
    assert page.read_text() == "nothing"


def test_foxglove_shows_topics_of_the_node() -> None:
    layout = (ROOT / "config" / "foxglove.json").read_text()
    json.loads(layout)
    known = reference()
    topics = set(re.findall(r"/event_detector(/[a-z_/]+)", layout))
    assert topics
    assert all(f"`~{topic}`" in known for topic in topics)


def test_values_that_stay_as_they_are_are_no_changes() -> None:
    """A file with all parameters, as ``ros2 param dump`` writes it, can be loaded into a running node."""
    settings = DetectorParameters()
    dumped = [Parameter(name, value=value) for name, value in default_parameters().items()]
    assert check_changes(dumped, settings).successful
    refused = check_changes([Parameter("every_nth", value=2)], settings)
    assert refused.reason.startswith("every_nth can be changed only while the node is unconfigured")
    assert check_changes([Parameter("every_nth", value=2)], None).successful


def test_names_that_are_no_parameters_are_said(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Those of quality of service are declared where there is a subscription, and ``use_sim_time`` by ROS."""
    given = ["score_treshold:=0.2", "gain:=3", "use_sim_time:=true", "qos_overrides./events.subscription.depth:=5"]
    with claimed_ros_domain(monkeypatch):
        rclpy.init(args=["--ros-args", *(word for one in given for word in ("-p", one))])
        EventDetector().destroy_node()
        rclpy.shutdown()
    said = capfd.readouterr().err
    assert "ignored, as this node has no such parameters: gain, score_treshold (perhaps score_threshold)\n" in said


def test_the_executable_says_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    for argument, code in (("--help", 0), ("--model", 2)):
        with pytest.raises(SystemExit) as ended:
            run(["event_detector", argument])
        assert ended.value.code == code
        printed = capsys.readouterr()
        assert "usage: event_detector [-h] [NAME ...]" in printed.out + printed.err


def test_garbage_is_not_looked_for_among_what_imports_have_made() -> None:
    """A look at all of it would keep the interpreter from taking packets for some tenths of a second."""
    code = """
import gc
from aegnn_ros.detector import detector_process
detector_process._spin = lambda names: print(gc.get_freeze_count() > 10 * len(gc.get_objects()))
detector_process.run(["event_detector"])
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "True\n"
