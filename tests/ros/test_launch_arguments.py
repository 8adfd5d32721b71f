# SPDX-License-Identifier: Apache-2.0
"""Arguments of launch files, checked also where ``ros2 launch`` is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from aegnn_ros.launch_arguments import existing_file, is_true


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
