# SPDX-License-Identifier: Apache-2.0
"""Data sets are found in their original layout and in AEGNN's, read to the last number, and missed in one sentence."""

from pathlib import Path

import numpy as np
import pytest

from aegnn_core.datasets import EventDataset, MissingFilesError, ncars, nmnist, open_dataset
from aegnn_core.datasets.dataset_format import BOX_DTYPE
from aegnn_core.datasets.event_dataset import FORMATS
from aegnn_core.datasets.ncaltech101 import split_letters
from aegnn_core.datasets.preprocessing import preprocess
from aegnn_core.datasets.samples import EventSamples
from aegnn_core.datasets.stored_graphs import open_graphs
from aegnn_core.evaluation import dataset_moments
from aegnn_core.events import Downsampler, EventFormatError, Letterbox
from aegnn_core.graph import GraphConfig
from tests.datasets.tiny_datasets import (
    aer_bytes,
    annotation,
    bag_stream,
    boxes_at,
    dat_bytes,
    random_rows,
    write,
    write_bag,
    write_dsec_det,
    write_dvs_gesture,
    write_gen1,
    write_ncaltech101,
    write_one_megapixel,
)
from tests.recordings import REAL


def rows(dataset: EventDataset, number: int) -> list[tuple[int, ...]]:
    return [tuple(int(event[name]) for name in "txyp") for event in dataset[number].stream.events]


@pytest.fixture
def few_ncars(monkeypatch: pytest.MonkeyPatch) -> None:
    """N-Cars with two cars and one background per split, and numbers as in the real one: over both of its parts."""
    numbers = {
        "training": (range(2, 4), range(1, 2)),
        "validation": (range(4, 6), range(2, 3)),
        "test": (range(2), range(1)),
    }
    monkeypatch.setattr(ncars, "_NUMBERS", numbers)


@pytest.mark.usefixtures("few_ncars")
@pytest.mark.parametrize("place", ["n-cars_{0}/{0}", "n-cars_{0}", "{0}", "Prophesee_Dataset_n_cars/n-cars_{0}/{0}"])
def test_ncars_as_downloaded(tmp_path: Path, place: str) -> None:
    for part, cars, backgrounds in (("train", range(2, 6), range(1, 3)), ("test", range(2), range(1))):
        folder = tmp_path / "ncars" / place.format(part)
        for number in cars:
            write(folder / "cars" / f"obj_{number:06d}_td.dat", dat_bytes((number, 119, 99, 1), (number + 7, 0, 0, 0)))
        for number in backgrounds:
            write(folder / "background" / f"obj_{number:06d}_td.dat", dat_bytes((100 + number, 5, 6, 0)))
    found = {split: open_dataset("ncars", split, task="recognition", root=tmp_path) for split in ncars._NUMBERS}
    for dataset in found.values():
        assert [item.label for item in dataset.recordings] == [0, 0, 1]
    assert rows(found["training"], 0) == [(2, 119, 99, 1), (9, 0, 0, 0)]
    assert rows(found["validation"], 2) == [(102, 5, 6, 0)]
    assert rows(found["test"], 1)[0][0] == 1
    item = found["test"][0]
    assert (item.label, item.boxes, item.stream.width, item.stream.height) == (0, None, 120, 100)


def test_ncars_numbers_are_those_of_the_download() -> None:
    """7 940 cars and 7 482 backgrounds to train on, 4 396 and 4 211 to test on, no number twice."""
    for label, (train, test) in enumerate([(7940, 4396), (7482, 4211)]):
        numbers = [n for split in ("test", "training", "validation") for n in ncars._NUMBERS[split][label]]
        assert numbers == list(range(train + test))
        assert len(ncars._NUMBERS["test"][label]) == test


def test_ncars_in_the_layout_of_aegnn(tmp_path: Path) -> None:
    for number, is_car in enumerate("10"):
        sequence = tmp_path / "ncars" / "validation" / f"sequence_{number:05d}"
        write(sequence / "events.txt", b"1 2 0.000100 1\n3 4 0.000250 0\n")
        write(sequence / "is_car.txt", f" {is_car}\n".encode())
    dataset = open_dataset("ncars", "validation", task="recognition", root=tmp_path)
    assert [dataset[n].label for n in range(2)] == [0, 1]
    assert dataset.form.labels == ("car", "background")
    assert rows(dataset, 1) == [(100, 1, 2, 1), (250, 3, 4, 0)]
    (tmp_path / "ncars/validation/sequence_00001/is_car.txt").write_text("maybe")
    with pytest.raises(EventFormatError, match=r"is_car.txt: holds 'maybe', expected 1 for a car or 0"):
        open_dataset("ncars", "validation", task="recognition", root=tmp_path)
    (tmp_path / "ncars/validation/sequence_00001/is_car.txt").unlink()
    with pytest.raises(MissingFilesError, match=r"1 of 4 files or folders are missing .*/sequence_00001/is_car.txt"):
        open_dataset("ncars", "validation", task="recognition", root=tmp_path)


def test_nmnist_as_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {
        "training": ("Train", range(1, 21)),
        "validation": ("Train", range(21, 31)),
        "test": ("Test", range(1, 13)),
    }
    monkeypatch.setattr(nmnist, "_PARTS", parts)
    for part, last in (("Train", 30), ("Test", 12)):
        for number in range(1, last + 1):
            events = aer_bytes((number, 33, 0, 1), (70_000 + number, 0, 33, 0))
            write(tmp_path / "nmnist" / part / str(number % 10) / f"{number:05d}.bin", events)
    found = {split: open_dataset("nmnist", split, task="recognition", root=tmp_path) for split in parts}
    assert {split: len(dataset) for split, dataset in found.items()} == {"training": 20, "validation": 10, "test": 12}
    assert [item.label for item in found["validation"].recordings] == [*range(1, 10), 0]
    assert rows(found["validation"], 1) == [(22, 33, 0, 1), (70_022, 0, 33, 0)]
    assert found["test"][0].stream.width == found["test"][0].stream.height == 34
    (tmp_path / "nmnist/Train/5/00015.bin").unlink()
    with pytest.raises(MissingFilesError, match=r"1 of 20 recordings are missing .*, the first is 00015.bin; expected"):
        open_dataset("nmnist", "training", task="recognition", root=tmp_path)


def test_nmnist_in_folders_of_splits(tmp_path: Path) -> None:
    for digit in range(10):
        write(tmp_path / "nmnist" / "test" / str(digit) / "00777.bin", aer_bytes((1, digit, 0, 1)))
    dataset = open_dataset("nmnist", "test", task="recognition", root=tmp_path)
    assert [(dataset[n].label, rows(dataset, n)[0][1]) for n in range(10)] == [(n, n) for n in range(10)]
    (tmp_path / "nmnist/test/3/00777.bin").unlink()
    with pytest.raises(MissingFilesError, match=r"1 of 10 classes have no .bin files in .*test, the first is 3; exp"):
        open_dataset("nmnist", "test", task="recognition", root=tmp_path)


@pytest.mark.skipif(not (REAL / "nmnist").is_dir(), reason="no real recordings beside the repository")
def test_real_recordings_of_nmnist() -> None:
    dataset = open_dataset("nmnist", "validation", task="recognition", root=REAL)
    assert len(dataset) == 100
    assert sorted({item.label for item in dataset.recordings}) == list(range(10))
    assert len(dataset[0].stream) > 1000


def test_ncaltech101_as_downloaded(tmp_path: Path) -> None:
    """All 8 709 recordings, each with one event that says which it is."""
    folder = tmp_path / "ncaltech101"
    for label, (name, letters) in enumerate(split_letters().items()):
        (folder / "Caltech101" / name).mkdir(parents=True)
        (folder / "Caltech101_annotations" / name).mkdir(parents=True)
        for number in range(1, len(letters) + 1):
            (folder / f"Caltech101/{name}/image_{number:04d}.bin").write_bytes(aer_bytes((number, label, 7, 1)))
            if name != "BACKGROUND_Google":
                box = annotation(-3, 5, 40, 60)
                (folder / f"Caltech101_annotations/{name}/annotation_{number:04d}.bin").write_bytes(box)
    splits = ("training", "validation", "test")
    found = {split: open_dataset("ncaltech101", split, task="recognition", root=tmp_path) for split in splits}
    assert [len(dataset) for dataset in found.values()] == [4362, 2612, 1735]
    paths = [item.events for dataset in found.values() for item in dataset.recordings]
    assert len(set(paths)) == 8709
    item = found["test"].recordings[-1]
    (event,) = rows(found["test"], -1)
    assert event == (int(item.events.stem[-4:]), item.label, 7, 1)
    assert found["test"].form.labels[item.label] == item.events.parent.name

    detection = open_dataset("ncaltech101", "test", task="detection", root=tmp_path)
    assert len(detection) == 1735 - sum(letter == "x" for letter in split_letters()["BACKGROUND_Google"])
    (box,) = detection[0].boxes
    # The corner is clipped, the size is not: that is how the annotations are meant.
    assert [float(box[name]) for name in "xywh"] == [0, 5, 43, 55]
    assert int(box["t"]) == int(detection[0].stream.events["t"][-1])
    assert int(box["class_id"]) == detection[0].label
    write(detection.recordings[0].boxes, b"\x00\x01" * 4)
    with pytest.raises(EventFormatError, match="4 numbers of 16 bit, expected at least 10"):
        detection[0]
    detection.recordings[0].boxes.unlink()
    with pytest.raises(MissingFilesError, match=r"1 of 1642 .*Caltech101_annotations/Faces_easy/annotation_00"):
        open_dataset("ncaltech101", "test", task="detection", root=tmp_path)


def test_the_split_of_ncaltech101_is_the_one_that_its_file_describes() -> None:
    rng = np.random.default_rng(101)
    assert list(split_letters()) == sorted(split_letters())
    for name, letters in split_letters().items():
        training, validation = round(0.5 * len(letters)), round(0.3 * len(letters))
        in_order = list("T" * training + "v" * validation + "x" * (len(letters) - training - validation))
        drawn = np.empty(len(letters), "U1")
        drawn[rng.permutation(len(letters))] = in_order
        assert "".join(drawn) == letters, name


def test_ncaltech101_in_the_layout_of_aegnn(tmp_path: Path) -> None:
    folder = tmp_path / "ncaltech101"
    for name in split_letters():
        write(folder / "training" / name / "image_0003.bin", aer_bytes((5, 1, 2, 0)))
        write(folder / "annotations" / name / "annotation_0003.bin", annotation(1, 2, 11, 22))
    dataset = open_dataset("ncaltech101", "training", task="detection", root=tmp_path)
    assert len(dataset) == 100
    assert [float(dataset[0].boxes[name][0]) for name in "xywh"] == [1, 2, 10, 20]
    with pytest.raises(MissingFilesError, match=r"image_00\d\d.bin; expected there: Caltech101.zip and"):
        open_dataset("ncaltech101", "test", task="detection", root=tmp_path)


GEN1_FIELDS = [("x", "f4"), ("y", "f4"), ("w", "f4"), ("h", "f4"), ("class_id", "u1"), ("confidence", "f4")]


@pytest.mark.parametrize(
    ("split", "place"), [("training", "train"), ("validation", "val"), ("validation", "validation")]
)
@pytest.mark.parametrize("time", ["ts", "t"])
def test_gen1(tmp_path: Path, split: str, place: str, time: str) -> None:
    folder = tmp_path / "gen1" / place
    fields = np.dtype([(time, "u8"), *GEN1_FIELDS, ("track_id", "u4")])
    for name in ("17-04-06_a", "17-04-04_b"):
        write(folder / f"{name}_td.dat", dat_bytes((600_000, 303, 239, 1)))
        np.save(
            folder / f"{name}_bbox.npy",
            np.array([(700_000, 1, 2, 30, 40, 1, 1, 9), (600_000, 5, 6, 50, 60, 0, 1, 8)], fields),
        )
    dataset = open_dataset("gen1", split, task="detection", root=tmp_path)
    assert [item.events.name for item in dataset.recordings] == ["17-04-04_b_td.dat", "17-04-06_a_td.dat"]
    item = dataset[0]
    assert (item.label, item.stream.width, item.stream.height) == (None, 304, 240)
    assert item.boxes.tolist() == [(600_000, 5, 6, 50, 60, 0, 8), (700_000, 1, 2, 30, 40, 1, 9)]
    (folder / "17-04-06_a_td.dat").unlink()
    with pytest.raises(MissingFilesError, match=r"1 of 4 .*/17-04-06_a_td.dat; expected there: the archives of"):
        open_dataset("gen1", split, task="detection", root=tmp_path)


def test_gen1_refuses_other_arrays_for_boxes(tmp_path: Path) -> None:
    write(tmp_path / "gen1/test/a_td.dat", dat_bytes((1, 1, 1, 1)))
    boxes = tmp_path / "gen1/test/a_bbox.npy"
    np.save(boxes, np.zeros((3, 5)))
    dataset = open_dataset("gen1", "test", task="detection", root=tmp_path)
    with pytest.raises(EventFormatError, match=r"a_bbox.npy: fields none, expected t, x, y, w, h, class_id, track_id"):
        dataset[0]
    np.save(boxes, np.array([(0, 1, 2, 3, 4, 6, 1, 1)], [("ts", "u8"), *GEN1_FIELDS, ("track_id", "u4")]))
    with pytest.raises(EventFormatError, match="class_id 6, expected 0"):
        dataset[0]
    np.save(boxes, np.array([{"pickled": 1}], object), allow_pickle=True)
    with pytest.raises(EventFormatError, match="expected a complete NumPy file"):
        dataset[0]


@pytest.mark.parametrize(
    ("w", "h", "counts"),
    [
        (18, 24, True),  # diagonal 30
        (18, 23.9, False),
        (10, 40, True),  # sides of 10
        (9.9, 40, False),
        (40, 10, True),
        (40, 9.9, False),
    ],
)
def test_a_box_is_large_enough_for_the_evaluation_of_prophesees_data_sets(w: float, h: float, counts: bool) -> None:
    for name, size in (("gen1", 1.0), ("1mpx", 2.0)):  # whose limits are twice as large
        counted = FORMATS[name].counts
        assert counted is not None
        assert counted(np.array([size * w], np.float32), np.array([size * h], np.float32)).tolist() == [counts]


def test_the_1_mpx_data_set(tmp_path: Path) -> None:
    write_one_megapixel(tmp_path)
    for split, number, time in (("training", 0, "ts"), ("validation", 1, "t"), ("test", 2, "t")):
        dataset = open_dataset("1mpx", split, task="detection", root=tmp_path)
        assert dataset.form.labels[5:] == ("traffic sign", "traffic light")
        item = dataset[0]
        assert (item.stream.width, item.stream.height) == (1280, 720)
        assert rows(dataset, 0) == random_rows(number, 300, 1_000_000, 1280, 720)
        assert item.boxes is not None, time
        assert item.boxes["class_id"].tolist() == list(range(7))
        # What is too early or too small does not count; what is only left out of the mean does.
        (moment,) = dataset.form.boxes_by_moment(item.boxes).items()
        assert (moment[0], moment[1]["class_id"].tolist()) == (700_000, [2, 3, 5, 6])
    assert dataset.form.evaluated_labels == ("pedestrian", "two wheeler", "car")


def test_dsec_det(tmp_path: Path) -> None:
    """Times are those of the clock, which events count from the file's offset."""
    write_dsec_det(tmp_path)
    counts = {"training": 41, "validation": 6, "test": 13}
    for split, count in counts.items():
        dataset = open_dataset("dsec_det", split, task="detection", root=tmp_path)
        assert len(dataset) == count
    names = [item.events.parts[-4] for item in dataset.recordings]
    assert (names[0], names[3], names[-1]) == ("thun_01_a", "interlaken_00_a", "zurich_city_15_a")
    assert dataset[3].boxes is not None
    offset = 49_599_300_523
    assert dataset[3].boxes.tolist() == [
        (offset + 4_000, 1.5, 2, 30, 40, 2, 7),
        (offset + 54_000, 9, 8, 7, 6, 7, 300),
    ]
    stream = dataset[3].stream
    assert (stream.width, stream.height, stream.events["t"].tolist()) == (640, 480, [offset, offset + 54_000])
    (tmp_path / "dsec_det/test/thun_02_a/object_detections/left/tracks.npy").unlink()
    with pytest.raises(
        MissingFilesError, match=r"1 of 26 files .*, the first is test/thun_02_a/object_detections/left"
    ):
        open_dataset("dsec_det", "test", task="detection", root=tmp_path)


def test_dvs_gesture(tmp_path: Path) -> None:
    """A file of events has many recordings, from the first to the last time of each label."""
    write_dvs_gesture(tmp_path)
    people = {"training": [1, 2, 3, 4], "validation": [5], "test": [6]}
    for split, users in people.items():
        dataset = open_dataset("dvs_gesture", split, task="recognition", root=tmp_path)
        assert [int(item.events.stem[4:6]) for item in dataset.recordings] == [user for user in users for _ in range(2)]
    assert [dataset[number].label for number in range(2)] == [0, 10]
    assert dataset.form.labels[10] == "other gestures"
    every = random_rows(6, 500, 10_000_000, 128, 128)
    for number, (first, last) in enumerate([(every[100][0], every[200][0]), (every[250][0], 9_000_000)]):
        assert rows(dataset, number) == [row for row in every if first <= row[0] <= last]
    labels = tmp_path / "dvs_gesture/DvsGesture/user06_led_labels.csv"
    labels.write_text("class,startTime_usec,endTime_usec\n1,10000001,10000002\n")
    empty = open_dataset("dvs_gesture", "test", task="recognition", root=tmp_path)
    with pytest.raises(EventFormatError, match=r"user06_led.aedat: has no events from 10000001 to 10000002 µs"):
        empty[0]
    for text, message in (
        ("label\n1", "begins with label, expected class,"),
        ("12,1,2", "a row is 12,1,2, expected a"),
    ):
        labels.write_text(text if text[0] == "l" else f"class,startTime_usec,endTime_usec\n{text}\n")
        with pytest.raises(EventFormatError, match=f"user06_led_labels.csv: {message}"):
            open_dataset("dvs_gesture", "test", task="recognition", root=tmp_path)


def test_what_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AEGNN_DATA_DIR", raising=False)
    with pytest.raises(ValueError, match="AEGNN_DATA_DIR is not set, expected the folder that holds the folder gen1"):
        open_dataset("gen1", "test", task="detection")
    monkeypatch.setenv("AEGNN_DATA_DIR", str(tmp_path))
    for name, task in (("ncars", "recognition"), ("nmnist", "recognition"), ("ncaltech101", "detection")):
        with pytest.raises(MissingFilesError, match=rf"^data set {name}, split test: .* expected there: .*https://"):
            open_dataset(name, "test", task=task)
    with pytest.raises(MissingFilesError, match=r"holds no files \*_td.dat and \*_bbox.npy; expected there"):
        open_dataset("gen1", "test", task="detection")
    with pytest.raises(
        ValueError, match="unknown data set 'cifar10', known are ncars, ncaltech101, gen1, 1mpx, dsec_det, nmnist"
    ):
        open_dataset("cifar10", "test", task="recognition")
    with pytest.raises(ValueError, match="unknown split 'val', known are training, validation, test"):
        open_dataset("gen1", "val", task="detection")
    with pytest.raises(ValueError, match="data set nmnist has no labels for detection, only for recognition"):
        open_dataset("nmnist", "test", task="detection")


@pytest.mark.parametrize("way", ["integrate", "coordinates"])
def test_recordings_can_be_taken_to_a_smaller_sensor_with_their_boxes(tmp_path: Path, way: str) -> None:
    write_gen1(tmp_path, area=(16, 12))
    options = {"task": "detection", "root": tmp_path}
    whole = open_dataset("gen1", "training", **options)
    small = open_dataset("gen1", "training", **options, sensor=(160, 120), downsampling=way)
    letterbox = Letterbox((304, 240), (160, 120))
    assert small.form.sensor == (160, 120)
    for number in (1, 0, 1):  # one recording leaves nothing behind for the next
        given, found = whole[number], small[number]
        assert (found.stream.width, found.stream.height) == (160, 120)
        expected = Downsampler(letterbox, way)(given.stream.events)
        np.testing.assert_array_equal(found.stream.events, expected)
        assert (0 < len(expected) < 900) == (way == "integrate")
        np.testing.assert_array_equal(found.boxes, letterbox.to_model(given.boxes))
        np.testing.assert_array_equal(small.only(number)[0].stream.events, expected)
        # The same boxes count, though they have half as many pixels.
        moments = {moment: len(boxes) for moment, boxes in whole.form.boxes_by_moment(given.boxes).items()}
        assert {moment: len(boxes) for moment, boxes in small.form.boxes_by_moment(found.boxes).items()} == moments
    assert whole.on_sensor((304, 240)) is whole
    with pytest.raises(ValueError, match="the recordings of gen1 have 304 x 240 px, expected at least those of 305 x"):
        whole.on_sensor((305, 241))
    with pytest.raises(ValueError, match="unknown downsampling 'mean'"):
        whole.on_sensor((160, 120), "mean")


def test_the_box_at_the_end_stays_at_the_end_on_a_smaller_sensor(tmp_path: Path) -> None:
    write_ncaltech101(tmp_path)
    small = open_dataset("ncaltech101", "training", task="detection", root=tmp_path, sensor=(60, 45))
    samples = EventSamples(small, GraphConfig(window=400_000), "detection")
    assert len(samples) == len(small)
    sample = samples[0]
    assert sample.boxes is not None
    assert len(sample.boxes) == 1
    assert sample.boxes["w"][0] < 11


#: Boxes at one time (x, y, w, h, class), of a picture of 304 x 240 px: inside, over two sides, outside, hardly inside.
OVER_THE_RIM = [
    (100, 100, 60, 40, 0),
    (-20, -30, 60, 70, 1),
    (280, 220, 60, 50, 0),
    (-70, 100, 60, 40, 0),
    (100, -70, 60, 50, 0),
    (-55, 50, 60, 40, 1),
]


def write_boxes_over_the_rim(root: Path) -> None:
    write_gen1(root)
    fields = [("ts", "u8"), *((name, "f4") for name in "xywh"), ("class_id", "u1"), ("track_id", "u4")]
    for number in range(2):
        boxes = [(600_000, *row, 7) for row in OVER_THE_RIM] + [(700_000, *OVER_THE_RIM[3], 7)]
        np.save(root / "gen1" / "training" / f"{number}_bbox.npy", np.array(boxes, fields))


@pytest.mark.parametrize(
    ("sensor", "expected"),
    [
        (None, [(100, 100, 160, 140), (0, 0, 40, 40), (280, 220, 304, 240)]),
        ((152, 152), [(50, 66, 80, 86), (0, 16, 20, 36), (140, 126, 152, 136)]),  # with 16 px above and below
    ],
)
def test_boxes_end_where_the_picture_ends(
    tmp_path: Path, sensor: tuple[int, int] | None, expected: list[tuple[int, ...]]
) -> None:
    """In samples, in stored graphs and in evaluations; what is too small then does not count."""
    write_boxes_over_the_rim(tmp_path)
    dataset = open_dataset("gen1", "training", task="detection", root=tmp_path, sensor=sensor)
    graph = GraphConfig(window=50_000)
    preprocess(dataset, graph, "detection")
    graphs, samples = open_graphs(dataset, graph, "detection"), EventSamples(dataset, graph, "detection")
    recording = next(dataset_moments(dataset, "detection").read())
    (truth,) = recording.truth
    assert (len(graphs), len(samples), list(recording.moments)) == (2, 2, [600_000])
    assert [tuple(corners) for corners in graphs[0].boxes.tolist()] == expected
    for boxes in (samples[0].boxes, truth):
        assert boxes is not None
        assert [(x, y, x + w, y + h) for x, y, w, h in boxes[[*"xywh"]].tolist()] == expected


def test_the_boxes_of_many_moments_are_parted_by_time() -> None:
    boxes = np.zeros(7, BOX_DTYPE)
    boxes["t"], boxes["w"], boxes["h"] = [9, 600_000, 600_001, 600_000, 600_001, 600_002, 600_002], 60, 40
    boxes["track_id"], boxes["w"][-2:] = np.arange(7), 1
    found = FORMATS["gen1"].boxes_by_moment(boxes)
    assert {moment: part["track_id"].tolist() for moment, part in found.items()} == {600_000: [1, 3], 600_001: [2, 4]}
    assert FORMATS["gen1"].boxes_by_moment(boxes[:0]) == {}


@pytest.mark.parametrize(
    ("names", "size", "options", "message"),
    [
        (("pedestrian", "car"), (40, 30), {}, "for the classes pedestrian, car, split training for the classes car, p"),
        (("car", "pedestrian"), (80, 60), {}, "for a sensor of 80 x 60 px, split training for a sensor of 40 x 30 px"),
        (("car", "pedestrian"), (80, 60), {"sensor": (20, 15)}, "downsampled by integrate .* from 80 x 60 px on 20 x"),
    ],
)
def test_splits_of_different_classes_or_cameras_are_not_mixed(
    tmp_path: Path, names: tuple[str, ...], size: tuple[int, int], options: dict, message: str
) -> None:
    for split, labels, camera in (("training", ("car", "pedestrian"), (40, 30)), ("validation", names, size)):
        place = tmp_path / "rosbag" / split / "drive"
        write_bag(place, bag_stream(0, *camera), [boxes_at(200_000, (1, 2, 10, 12, 0))], labels)
    training, validation = (
        open_dataset("rosbag", split, task="detection", root=tmp_path, **options)
        for split in ("training", "validation")
    )
    with pytest.raises(ValueError, match=f"split validation of rosbag is {message}"):
        training.joined(validation)
    assert len(training.joined(training)) == 2
