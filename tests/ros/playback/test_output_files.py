# SPDX-License-Identifier: Apache-2.0
"""Files that cannot be written are noticed before the work whose figures would be lost."""

from pathlib import Path

import pytest

from aegnn_ros.playback.output_files import output_files


def test_a_folder_is_made_and_nothing_in_it_changes(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    assert output_files(folder, "a.json", "b.png") == [folder / "a.json", folder / "b.png"]
    assert list(folder.iterdir()) == []
    (folder / "a.json").write_text("earlier")
    output_files(folder, "a.json", "b.png")
    assert [file.name for file in folder.iterdir()] == ["a.json"]
    assert (folder / "a.json").read_text() == "earlier"


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "b.png").mkdir()
    with pytest.raises(OSError, match=r"b\.png"):
        output_files(tmp_path, "a.json", "b.png")


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        output_files(tmp_path / "file", "a.json")
