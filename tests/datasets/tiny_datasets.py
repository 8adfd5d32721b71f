# SPDX-License-Identifier: Apache-2.0
"""Data sets of a few recordings, in the exact formats of the field."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from aegnn_core.datasets.dsec_det import drives
from aegnn_core.datasets.ncaltech101 import split_letters
from aegnn_core.events import EventStream, make_events
from aegnn_core.events.label_topics import LABEL_DTYPE, Label
from aegnn_core.events.rosbag import event_packets, write_event_bag

Row = tuple[int, int, int, int]

#: Host time of the sensor's time 0 in bags [ns].
CLOCK_OFFSET = 1_700_000_000_123_456_000


def random_rows(seed: int, count: int, duration: int, width: int, height: int) -> list[Row]:
    """Events (t, x, y, p) at random, in time order."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, duration, count)).tolist()
    columns = (rng.integers(0, size, count).tolist() for size in (width, height, 2))
    return list(zip(t, *columns, strict=True))


def dat_bytes(*events: Row) -> bytes:
    """Events (t, x, y, p) as a Prophesee ``_td.dat`` file."""
    words = np.array([(t, x | y << 14 | p << 28) for t, x, y, p in events], "<u4")
    return b"% Data file containing Event2D events.\n% Version 2\n" + bytes([0, 8]) + words.tobytes()


def aer_bytes(*events: Row) -> bytes:
    """Events (t, x, y, p) as an AER-40 ``.bin`` file."""
    return b"".join(bytes([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255]) for t, x, y, p in events)


def annotation(x0: int, y0: int, x1: int, y2: int) -> bytes:
    """A box of N-Caltech101."""
    return np.array([2, 5, x0, y0, x1, y0, x1, y2, x0, y2, 2, 20, 0, 0], "<i2").tobytes()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_nmnist(root: Path, split: str = "training", per_digit: int = 1, events: int = 60) -> None:
    for digit in range(10):
        for number in range(per_digit):
            rows = random_rows(10 * number + digit, events, 300_000, 34, 34)
            write(root / "nmnist" / split / str(digit) / f"{number:05d}.bin", aer_bytes(*rows))


def write_ncars(root: Path, split: str = "training") -> None:
    for number, is_car in enumerate("10"):
        sequence = root / "ncars" / split / f"sequence_{number:05d}"
        rows = random_rows(number, 80, 100_000, 120, 100)
        write(sequence / "events.txt", "".join(f"{x} {y} {t / 1e6:.6f} {p}\n" for t, x, y, p in rows).encode())
        write(sequence / "is_car.txt", is_car.encode())


def write_ncaltech101(root: Path, split: str = "training") -> None:
    for label, name in enumerate(split_letters()):
        rows = random_rows(label, 20, 300_000, 30, 20)
        write(root / "ncaltech101" / split / name / "image_0003.bin", aer_bytes(*rows))
        write(root / "ncaltech101" / "annotations" / name / "annotation_0003.bin", annotation(1, 2, 11 + label, 22))


def write_gen1(root: Path, split: str = "training", area: tuple[int, int] = (304, 240)) -> None:
    """Two recordings with boxes at 0.3 s, which is too early, at 0.6 s (one of them too small), 0.9 s and 5 s.

    All events lie in ``area`` (width and height [px]).
    """
    fields = [("ts", "u8"), *((name, "f4") for name in "xywh"), ("class_id", "u1"), ("confidence", "f4")]
    fields.append(("track_id", "u4"))
    for number in range(2):
        write(root / "gen1" / split / f"{number}_td.dat", dat_bytes(*random_rows(number, 900, 1_000_000, *area)))
        rows = [(300_000, 1, 2, 60, 40, 0), (600_000, 1, 2, 60, 40, 1), (600_000, 3, 4, 8, 90, 0)]
        rows += [(900_000, 5, 6, 33.5, 44.5, 0), (900_000, 100, 90, 20, 50, 1), (5_000_000, 5, 6, 70, 80, 0)]
        np.save(root / "gen1" / split / f"{number}_bbox.npy", np.array([(*row, 1, 7) for row in rows], fields))


def write_one_megapixel(root: Path) -> None:
    """A recording per split, with either name of the time, and boxes of all classes: one is too early, one too short,
    and one has too small a diagonal."""
    fields = [(name, "f4") for name in "xywh"]
    fields += [("class_id", "u4"), ("track_id", "u4"), ("class_confidence", "f4")]
    sizes = [(90, 80), (90, 19.9), (90, 80), (50, 40), (40, 40), (60, 20), (21, 60)]
    for number, (folder, time) in enumerate((("train", "ts"), ("val", "t"), ("test", "t"))):
        place = root / "1mpx" / folder
        header = b"% Version 2\n% Height 720\n% Width 1280\n"
        content = dat_bytes(*random_rows(number, 300, 1_000_000, 1280, 720))
        write(place / "moorea_td.dat", header + bytes([12, 8]) + content[content.index(bytes([0, 8])) + 2 :])
        rows = [(700_000 if n else 500_000, 8, 9, *size, n, n, 1) for n, size in enumerate(sizes)]
        np.save(place / "moorea_bbox.npy", np.array(rows, [(time, "u8"), *fields]))


def write_dsec_det(root: Path) -> None:
    """All drives, with two events and two boxes each."""
    fields = [("t", "<u8"), *((name, "<f8") for name in "xyhw"), ("class_id", "u1"), ("class_confidence", "<f8")]
    fields.append(("track_id", "<u8"))
    offset = 49_599_300_523
    rows = [(offset + 54_000, 9, 8, 6, 7, 7, 0.5, 300), (offset + 4_000, 1.5, 2, 40, 30, 2, 0.9, 7)]
    tracks = np.array(rows, fields)
    for split, names in ((split, drives(split)) for split in ("training", "validation", "test")):
        for name in names:
            drive = root / "dsec_det" / ("test" if split == "test" else "train") / name
            for folder in ("events/left", "object_detections/left"):
                (drive / folder).mkdir(parents=True)
            np.save(drive / "object_detections/left/tracks.npy", tracks)
            with h5py.File(drive / "events/left/events.h5", "w") as file:
                columns = {"t": ("u4", (0, 54_000)), "x": ("u2", (5, 639)), "y": ("u2", (6, 7)), "p": ("u1", (0, 1))}
                for column, (kind, values) in columns.items():
                    file[f"events/{column}"] = np.array(values, kind)
                file["ms_to_idx"] = np.arange(55, dtype="u8")
                file["t_offset"] = np.int64(offset)


def write_dvs_gesture(root: Path) -> None:
    """Five people to train on and one to test on, in AEDAT 3.1, with two gestures each."""
    place = root / "dvs_gesture" / "DvsGesture"
    for user in range(1, 7):
        every = random_rows(user, 500, 10_000_000, 128, 128)
        content = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
        for start in range(0, 500, 90):
            packet = every[start : start + 90]
            content += struct.pack("<2h6i", 1, 1, 8, 4, 0, len(packet), len(packet), len(packet))
            content += b"".join(struct.pack("<Ii", x << 17 | y << 2 | p << 1 | 1, t) for t, x, y, p in packet)
        write(place / f"user{user:02d}_led.aedat", content)
        labels = f"class,startTime_usec,endTime_usec\n1,{every[100][0]},{every[200][0]}\n11,{every[250][0]},9000000\n"
        write(place / f"user{user:02d}_led_labels.csv", labels.encode())
    write(place / "trials_to_train.txt", "".join(f"user{user:02d}_led.aedat\n" for user in (3, 1, 2, 5, 4)).encode())
    write(place / "trials_to_test.txt", b"user06_led.aedat\n")


def bag_stream(seed: int, width: int = 40, height: int = 30) -> EventStream:
    rows = random_rows(seed, 200, 500_000, width, height)
    return EventStream(make_events(*np.array(rows).T), width, height)


def write_bag(
    path: Path, stream: EventStream, labels: list[Label], names: tuple[str, ...] = (), **options: str
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    packets = event_packets(stream, stamp_offset=CLOCK_OFFSET)
    write_event_bag(path, packets, labels=labels, class_names=names, **options)


def boxes_at(t_us: int, *rows: tuple[float, float, float, float, int]) -> Label:
    """Boxes (x, y, w, h, class) at a time of the sensor."""
    return Label(1000 * t_us + CLOCK_OFFSET, boxes=np.array(list(rows), LABEL_DTYPE))


def write_rosbag_detection(root: Path, split: str = "training") -> None:
    """Two bags, in either storage, with boxes at 0.2 s and 0.4 s, and none at 0.3 s."""
    for number, storage in enumerate(("mcap", "sqlite3")):
        labels = [
            boxes_at(200_000, (1, 2, 10, 12, 1), (20, 10, 5.5, 6, 0)),
            boxes_at(300_000),
            boxes_at(400_000, (3, 3, 9, 9, number)),
        ]
        bag = root / "rosbag" / split / f"drive_{number}"
        write_bag(bag, bag_stream(number), labels, ("car", "pedestrian"), storage=storage)


def write_rosbag_recognition(root: Path, split: str = "training") -> None:
    for number in range(3):
        labels = [Label(CLOCK_OFFSET, class_id=number % 2), Label(CLOCK_OFFSET + 10**8, class_id=number % 2)]
        write_bag(root / "rosbag" / split / f"cup_{number}", bag_stream(number), labels, ("cup", "hand"))


#: The definitions of ROS 1 (vision_msgs 0.0.2 and dvs_msgs), as a bag carries them.
_ROS1_DEFINITIONS = {
    "vision_msgs/msg/ObjectHypothesisWithPose": "int64 id\nfloat64 score\ngeometry_msgs/PoseWithCovariance pose\n",
    "vision_msgs/msg/ObjectHypothesis": "int64 id\nfloat64 score\n",
    "vision_msgs/msg/BoundingBox2D": "geometry_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y\n",
    "vision_msgs/msg/Detection2D": (
        "Header header\nObjectHypothesisWithPose[] results\nBoundingBox2D bbox\nsensor_msgs/Image source_img\n"
    ),
    "vision_msgs/msg/Detection2DArray": "Header header\nDetection2D[] detections\n",
    "vision_msgs/msg/Classification2D": ("Header header\nObjectHypothesis[] results\nsensor_msgs/Image source_img\n"),
    "dvs_msgs/msg/Event": "uint16 x\nuint16 y\ntime ts\nbool polarity\n",
    "dvs_msgs/msg/EventArray": "Header header\nuint32 height\nuint32 width\ndvs_msgs/Event[] events\n",
}


def write_ros1_bag(path: Path, stream: EventStream, labels: list[Label]) -> None:
    """A ROS 1 bag with event arrays and labels; its sensor's time is ROS time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    store = get_typestore(Stores.ROS1_NOETIC)
    types = {}
    for name, definition in _ROS1_DEFINITIONS.items():
        types |= get_types_from_msg(definition, name)
    store.register(types)
    new = {name.rpartition("/")[2]: kind for name, kind in store.types.items()}
    time = store.types["builtin_interfaces/msg/Time"]

    def header(stamp: int):
        return new["Header"](seq=0, stamp=time(*divmod(stamp, 10**9)), frame_id="")

    image = new["Image"](header(0), 0, 0, "", 0, 0, np.empty(0, np.uint8))
    nowhere = new["PoseWithCovariance"](new["Pose"](new["Point"](0, 0, 0), new["Quaternion"](0, 0, 0, 1)), np.zeros(36))

    def detection(box: np.void):
        center = new["Pose2D"](box["x"] + box["w"] / 2, box["y"] + box["h"] / 2, 0)
        result = new["ObjectHypothesisWithPose"](int(box["class_id"]), 0.9, nowhere)
        return new["Detection2D"](header(0), [result], new["BoundingBox2D"](center, box["w"], box["h"]), image)

    with Ros1Writer(path) as writer:
        events = [
            new["Event"](int(e["x"]), int(e["y"]), time(*divmod(1000 * int(e["t"]), 10**9)), bool(e["p"]))
            for e in stream.events
        ]
        content = new["EventArray"](header(0), stream.height, stream.width, events)
        kind = "dvs_msgs/msg/EventArray"
        connection = writer.add_connection("/dvs/events", kind, typestore=store)
        writer.write(connection, 0, store.serialize_ros1(content, kind))
        boxes = bool(labels) and labels[0].boxes is not None
        kind = f"vision_msgs/msg/{'Detection2DArray' if boxes else 'Classification2D'}"
        connection = writer.add_connection("/labels", kind, typestore=store)
        for label in labels:
            if label.boxes is not None:
                content = new["Detection2DArray"](header(label.stamp), [detection(box) for box in label.boxes])
            else:
                content = new["Classification2D"](
                    header(label.stamp), [new["ObjectHypothesis"](label.class_id, 1.0)], image
                )
            writer.write(connection, label.stamp, store.serialize_ros1(content, kind))
