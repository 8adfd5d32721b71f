# SPDX-License-Identifier: Apache-2.0
"""`aegnn view` shows events, what is true and what a model answers, at the right times."""

import socket
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from aegnn_core.cli import main
from aegnn_core.datasets.labelled_recording import LabelledRecording
from aegnn_core.drawing import BACKGROUND, CLASS_COLORS, ON_COLOR
from aegnn_core.events import EventStream, make_events, write_event_bag
from aegnn_core.events.label_topics import LABEL_DTYPE, Label
from aegnn_core.nn import DETECTION_DTYPE
from aegnn_core.viewing import Frame, Shown, draw_frame, recording_frames
from aegnn_core.viewing.rerun_viewer import free_port
from aegnn_core.viewing.video import write_video

START_US = 5_000_000
NAMES = ("cat", "dog")


def boxes_at(x: float, class_id: int) -> np.ndarray:
    return np.array([(x, 10, 12, 8, class_id)], LABEL_DTYPE)


@pytest.fixture(scope="module")
def recording() -> LabelledRecording:
    """A dot that goes right by a pixel per ms, for 100 ms, and two labels, the second of another class."""
    k = np.arange(101)
    stream = EventStream(make_events(START_US + 1000 * k, k, np.full(101, 20), np.ones(101, int)), 160, 120)
    labels = [Label(1000 * (START_US + 20_000), boxes_at(20, 0)), Label(1000 * (START_US + 80_000), boxes_at(60, 1))]
    return LabelledRecording(stream, labels, NAMES)


def test_frames_have_the_events_of_their_exposure_and_the_nearest_label(recording: LabelledRecording) -> None:
    shown = Shown(fps=25, speed=0.5, exposure_us=10_000, start_us=20_000, duration_us=60_000)

    frames = list(recording_frames(recording, shown))

    assert [frame.time for frame in frames] == [20_000, 40_000, 60_000]
    for frame in frames:
        (row,), columns = np.unique(np.argwhere((frame.image != BACKGROUND).any(-1))[:, 0]), np.arange(160)
        lit = columns[(frame.image[row] != BACKGROUND).any(-1)]
        assert_array_equal(lit, np.arange(frame.time // 1000 - 9, frame.time // 1000 + 1))
    assert [int(frame.truth["class_id"][0]) for frame in frames if frame.truth is not None] == [0, 0, 1]


def test_boxes_are_true_near_their_time_only_and_a_class_always(recording: LabelledRecording) -> None:
    shown, first = Shown(fps=25, speed=0.5, start_us=60_000), recording.labels[0]
    of_class = replace(first, boxes=None, class_id=1)

    boxes, classes = (list(recording_frames(replace(recording, labels=[label]), shown)) for label in (first, of_class))

    assert [frame.truth is None for frame in boxes] == [False, True]  # 40 and 60 ms behind it
    assert [frame.true_class for frame in classes] == [1, 1]


def test_what_is_true_is_coloured_and_white_beside_a_models_answers() -> None:
    image = np.empty((120, 160, 3), np.uint8)
    image[:] = BACKGROUND
    found = np.array([(70, 60, 20, 20, 0.5, 1)], DETECTION_DTYPE)

    alone = draw_frame(Frame(0, image, truth=boxes_at(20, 1)), NAMES)
    both = draw_frame(Frame(0, image, truth=boxes_at(20, 1), found=found), NAMES, ("car", "pedestrian"))

    assert alone.shape == both.shape == (480, 640, 3)
    assert tuple(alone[40 + 32, 80]) == CLASS_COLORS[1]
    assert tuple(both[40 + 32, 80]) == ON_COLOR
    assert tuple(both[4 * 80, 4 * 80]) == CLASS_COLORS[1]


def test_a_gif_lasts_as_long_as_its_pictures(tmp_path: Path) -> None:
    """It has steps of 10 ms, which 30 pictures per second do not meet."""
    write_video(tmp_path / "a.gif", [np.full((8, 8, 3), number, np.uint8) for number in range(0, 240, 4)], 30)
    with Image.open(tmp_path / "a.gif") as gif:
        durations = []
        for number in range(gif.n_frames):
            gif.seek(number)
            durations.append(gif.info["duration"])
    assert (len(durations), sum(durations), set(durations)) == (60, 2000, {30, 40})


def test_the_command_writes_a_gif_with_a_packaged_models_answers(
    tmp_path: Path, recording: LabelledRecording, capsys: pytest.CaptureFixture[str]
) -> None:
    write_event_bag(tmp_path / "bag", recording.stream, labels=recording.labels, class_names=NAMES)
    video = tmp_path / "a.gif"
    view = ["view", str(tmp_path / "bag"), "--video", str(video)]

    assert main([*view, "--fps", "20", "--speed", "0.5", "--model", "scenes_detector"]) == 0
    with Image.open(video) as gif:
        assert (gif.n_frames, gif.size, gif.info["duration"]) == (4, (640, 480), 50)
    assert f"{video}: 4 pictures" in capsys.readouterr().out

    for arguments, sentence in (
        ([*view, "--start", "3"], "start is at 3 s, the recording lasts 0.1 s"),
        ([*view, "--fps", "1e7"], "1e+07 pictures per second at the speed 1 are 1e-07 s of the recording apart, exp"),
        ([*view, "--speed", "1e305"], "1e+305 are 4e+303 s of the recording apart, expected 1e-06 to"),
        ([*view, "--score-threshold", "0.5"], "--score-threshold has no effect without --model"),
        ([*view, "--device", "cuda", "--downsampling", "integrate"], "--downsampling, --device have no effect without"),
        (
            [*view, "--model", "scenes_recognizer", "--score-threshold", "0.5"],
            "--score-threshold has no effect with scenes_recognizer, which is for recognition",
        ),
        (["view", "--topic", "/events", "--start", "1", "--speed", "2"], "--start, --speed have no effect on live ev"),
        ([*view, "--fps", "1e-5"], "a.gif: a video of 1e-05 pictures per second, expected at least 0.01"),
        ([*view[:3], str(tmp_path / "a.avi")], "a.avi: expected a video's name that ends in .gif or .mp4"),
        (["view"], "nothing to look at"),
        (["view", "--topic", "/events", "--model", "nmnist"], "--model is for recordings"),
    ):
        assert main(arguments) == 2
        assert sentence in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gif", "bag"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--duration", "inf"], "argument --duration: expected a number above 0, at most 2147483648, found 'inf'"),
        (["--exposure-ms", "1e305"], "argument --exposure-ms: expected a number above 0, at most 2147483648000, found"),
        (["--start", "nan"], "argument --start: expected a number from 0 to 2147483648, found 'nan'"),
        (["--start", "1e305"], "argument --start: expected a number from 0 to 2147483648, found '1e305'"),
        (["--fps", "0"], "argument --fps: expected a number above 0, found '0'"),
        (["--score-threshold", "nan"], "argument --score-threshold: expected a number from 0 to 1, found 'nan'"),
        (["--video", "a.gif", "--save", "a.rrd"], "argument --save: not allowed with argument --video"),
        (["--video", "a.gif", "--web"], "argument --web: not allowed with argument --video"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["view", "a.npz", *options])
    assert sentence in capsys.readouterr().err


def test_mp4_and_the_viewer_work_or_say_which_package_they_need(
    tmp_path: Path, recording: LabelledRecording, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "a.npz", events=recording.stream.events, width=160, height=120)
    view = ["view", str(tmp_path / "a.npz"), "--fps", "20"]
    for module, target in (("av", ["--video", "b.mp4"]), ("rerun", ["--save", "b.rrd"])):
        file = tmp_path / target[1]
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            assert main([*view, target[0], str(file)]) == 2
        assert f"package {module} is missing: pip install 'aegnn_ros[view]'" in capsys.readouterr().err
        assert not file.exists()
    pytest.importorskip("av", reason="PyAV is not installed (extra view)")
    assert main([*view, "--video", str(tmp_path / "b.mp4")]) == 0
    pytest.importorskip("rerun", reason="rerun-sdk is not installed (extra view)")
    assert main([*view, "--save", str(tmp_path / "b.rrd")]) == 0
    content = (tmp_path / "b.rrd").read_bytes()
    assert len(content) > 10_000
    assert b"ViewBlueprint" in content  # the view that has the picture and the boxes


def test_a_second_viewer_finds_a_port_of_its_own() -> None:
    with socket.socket() as first:
        first.bind(("0.0.0.0", 0))
        first.listen()
        taken = first.getsockname()[1]
        assert free_port(taken) not in (0, taken)
    assert free_port(taken) == taken
