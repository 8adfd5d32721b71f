# SPDX-License-Identifier: Apache-2.0
"""`aegnn simulate` writes scenes that read back with the same events, sensor and boxes, whatever the format."""

import errno
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from aegnn_core.cli import main
from aegnn_core.datasets.boxes_file import read_boxes_file
from aegnn_core.datasets.labelled_recording import read_labelled_recording
from aegnn_core.datasets.scene_files import SCENE_FORMATS, write_scenes
from aegnn_core.events import EventFormatError, EventStream, make_events
from aegnn_core.events.files.writing import write_events
from aegnn_core.events.simulation import SceneConfig, simulate_scene

CAMERA, DURATION_US = (96, 80), 200_000


@pytest.mark.parametrize("form", SCENE_FORMATS)
def test_a_scene_reads_back_with_its_boxes(tmp_path: Path, form: str) -> None:
    arguments = ["--format", form, "--camera", "{}x{}".format(*CAMERA), "--duration", "0.2", "--seed", "7"]
    assert main(["simulate", "--output", str(tmp_path), *arguments]) == 0
    scene = simulate_scene(7, SceneConfig(duration_us=DURATION_US).for_camera(CAMERA))
    assert len(scene.boxes) > 0

    path = tmp_path / ("scene_7" if form in ("mcap", "sqlite3") else f"scene_7.{form}")
    found = read_labelled_recording(path)

    assert_array_equal(found.stream.events, scene.stream.events)
    assert (found.stream.width, found.stream.height) == CAMERA
    assert found.class_names == scene.labels
    by_time = {label.stamp: label.boxes for label in found.labels}
    for time in np.unique(scene.boxes["t"]).tolist():
        true, read = scene.boxes[scene.boxes["t"] == time], by_time[1000 * time]
        for name in ("x", "y", "w", "h", "class_id"):
            assert_allclose(read[name], true[name], atol=1e-4)


def test_what_cannot_be_written_is_one_sentence_and_nothing_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["simulate", "--output", str(tmp_path), "--duration", "0.02"]
    assert main([*out, "--format", "npz"]) == 0
    before = (tmp_path / "scene_1000000.npz").read_bytes()
    for arguments, sentence in (
        (["--format", "npz"], "scene_1000000.npz: exists already"),
        (["--format", "raw"], "scene_1000000_bbox.npy: exists already"),
        (["--format", "dat"], "unknown format 'dat', expected one of mcap"),
        (["--camera", "640"], "--camera is '640'"),
        (["--threshold", "0"], "threshold_on is 0.0"),
        (["--threshold", "inf"], "threshold_on is inf"),
        (["--object-scale", "1e305"], "the scale of a scene is 1e+305"),
        (["--noise-spread", "-1"], "shot_spread is -1.0"),
    ):
        assert main([*out, *arguments]) == 2
        assert sentence in capsys.readouterr().err
    for number in (["--duration", "-1"], ["--duration", "1e305"], ["--scenes", "0"], ["--seed", "-1"]):
        with pytest.raises(SystemExit):
            main([*out, "=".join(number)])
        assert f"argument {number[0]}: expected a" in capsys.readouterr().err
    (tmp_path / "labels.txt").write_text("forklift\npallet\n")
    assert main([*out, "--format", "npz", "--seed", "3"]) == 2
    assert "labels.txt: names the classes forklift, pallet, expected car, pedestrian or no" in capsys.readouterr().err
    assert (tmp_path / "labels.txt").read_text() == "forklift\npallet\n"
    assert (tmp_path / "scene_1000000.npz").read_bytes() == before
    assert not (tmp_path / "scene_1000000.raw").exists()

    large = EventStream(make_events(*np.array([[5], [3000], [0], [1]])), 4000, 10)
    with pytest.raises(ValueError, match="below the sensor's 2048 px"):
        write_events(tmp_path / "large.raw", large)
    assert not (tmp_path / "large.raw").exists()
    at_zero = EventStream(make_events(*np.array([[0], [3], [5], [1]])), 10, 10)
    with pytest.raises(
        ValueError, match="whole seconds, which in a text file would look like microseconds or polariti"
    ):
        write_events(tmp_path / "zero.txt", at_zero)
    assert not (tmp_path / "zero.txt").exists()


def test_a_scene_whose_boxes_cannot_be_written_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_disk(file: object, table: np.ndarray) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", fill_disk)
    with pytest.raises(OSError, match="No space left"):
        next(write_scenes(tmp_path, "npz", 7, 1, SceneConfig(duration_us=DURATION_US).for_camera(CAMERA)))
    assert [path.name for path in tmp_path.iterdir()] == ["labels.txt"]


BOX = np.dtype([("ts", "<u8"), *((name, "<f4") for name in "xywh"), ("class_id", "<i4"), ("track_id", "<u4")])


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (np.array([(5, 1, 2, 3, 4, 260, 1)], BOX), "a box is of class 260, expected a number from 0 to 255"),
        (np.array([(5, 1, 2, 3, 4, -1, 1)], BOX), "a box is of class -1, expected a number from 0 to 255"),
        (np.array([(5, 1, np.nan, 3, 4, 0, 1)], BOX), "the y of a box is nan, expected a number"),
        (np.array([(5, 1, 2, 3, np.inf, 0, 1)], BOX), "the h of a box is inf, expected a number"),
        (np.zeros((), BOX), r"array of .* \(\), expected one number a field and a box a row"),
        (np.zeros((2, 3), BOX), r"array of .* \(2, 3\), expected one number a field and a box a row"),
        (np.zeros(2, [(name, "U3") for name in BOX.names]), r"array of .* \(2,\), expected one number a field and a"),
        (np.zeros(3), "fields none, expected t, x, y, w, h, class_id, track_id"),
    ],
)
def test_boxes_that_are_none_are_refused(tmp_path: Path, boxes: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a_bbox.npy", boxes)
    with pytest.raises(EventFormatError, match=f"a_bbox.npy: {message}"):
        read_boxes_file(tmp_path / "a_bbox.npy")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\3\4hello"])
def test_a_file_of_boxes_that_is_no_array_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a_bbox.npy").write_bytes(content)
    with pytest.raises(EventFormatError, match=r"a_bbox.npy: .*, expected a complete NumPy file"):
        read_boxes_file(tmp_path / "a_bbox.npy")
    np.savez(tmp_path / "b.npz", a=np.zeros(3))
    with pytest.raises(EventFormatError, match=r"b.npz: is an archive of arrays, expected one array"):
        read_boxes_file(tmp_path / "b.npz")


def test_a_file_may_have_no_boxes(tmp_path: Path) -> None:
    np.save(tmp_path / "a_bbox.npy", np.empty(0, BOX))
    assert len(read_boxes_file(tmp_path / "a_bbox.npy")) == 0
