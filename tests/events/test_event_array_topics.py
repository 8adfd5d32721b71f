# SPDX-License-Identifier: Apache-2.0
"""Event arrays of ROS 1 and ROS 2 bags decode to the events that were written, and flawed ones say what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rosbags.typesys import Stores

from aegnn_core.events import EventFormatError, read_events
from aegnn_core.events.event_array_topics import EVENT_ARRAY_TYPES, decode_event_array, read_event_array
from aegnn_core.events.rosbag import read_event_arrays
from tests.events.foreign_formats import ARRAYS_START, make_message, make_store, write_arrays

EVENTS = [(ARRAYS_START, 999_999_000, 3, 4, 1), (ARRAYS_START + 1, 0, 239, 179, 0), (ARRAYS_START + 1, 1500, 8, 9, 1)]


@pytest.mark.parametrize("kind", EVENT_ARRAY_TYPES)
@pytest.mark.parametrize("name", ["old.bag", "new"])
@pytest.mark.parametrize("frame", ["", "d", "dv", "dvs", "dvs4"])  # moves the events to every alignment
def test_arrays_decode(tmp_path: Path, kind: str, name: str, frame: str) -> None:
    path = write_arrays(tmp_path / name, kind, [EVENTS[:1], [], EVENTS[1:]], frame=frame)
    store = make_store(Stores.ROS2_KILTED, kind)
    message = bytes(store.serialize_cdr(make_message(store, kind, EVENTS, frame, (240, 180)), kind))
    array = read_event_array(message, "cdr")
    assert (array.stamp, array.frame_id, len(array.words)) == (ARRAYS_START * 10**9 + 5, frame, 3)
    stream = read_events(path)
    assert (stream.width, stream.height) == (240, 180)
    first = ARRAYS_START * 1_000_000 + 999_999
    assert stream.events.tolist() == [(first, 3, 4, 1), (first + 1, 239, 179, 0), (first + 2, 8, 9, 1)]
    assert [len(events) for events, _, _ in read_event_arrays(path)] == [1, 0, 2]


@pytest.mark.parametrize("name", ["old.bag", "new"])
def test_many_random_events(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 2_000_000_000, 500))
    rows = [
        (ARRAYS_START + int(now // 10**9), int(now % 10**9), *(int(n) for n in rng.integers((0, 0, 0), (346, 260, 2))))
        for now in t
    ]
    path = write_arrays(tmp_path / name, EVENT_ARRAY_TYPES[0], [rows[:200], rows[200:]], sizes=((346, 260),))
    events = read_events(path).events
    assert events["t"].tolist() == [sec * 10**6 + nanosec // 1000 for sec, nanosec, *_ in rows]
    for index, field in enumerate("xyp", 2):
        assert events[field].tolist() == [row[index] for row in rows]


def test_a_message_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    for release, serialization in ((Stores.ROS1_NOETIC, "ros1"), (Stores.ROS2_KILTED, "cdr")):
        kind = EVENT_ARRAY_TYPES[0]
        store = make_store(release, kind)
        message = make_message(store, kind, EVENTS, "dvs", (240, 180))
        data = bytes(
            store.serialize_ros1(message, kind) if serialization == "ros1" else store.serialize_cdr(message, kind)
        )
        events, width, height = decode_event_array(data, serialization)
        assert (len(events), width, height) == (3, 240, 180)
        with pytest.raises(EventFormatError, match=rf"3 events has {len(data) - 5} bytes, expected"):
            decode_event_array(data[:-5], serialization)
        with pytest.raises(EventFormatError, match="9 bytes is cut off in its header"):
            decode_event_array(data[:9], serialization)
    with pytest.raises(EventFormatError, match="big-endian CDR, expected little-endian"):
        decode_event_array(b"\x00\x00" + data[2:], "cdr")


def test_flawed_bags_are_named(tmp_path: Path) -> None:
    kind = EVENT_ARRAY_TYPES[1]
    path = write_arrays(tmp_path / "sizes.bag", kind, [EVENTS[:1], EVENTS[1:]], sizes=((240, 180), (346, 260)))
    with pytest.raises(EventFormatError, match=r"message 1 is of 346 x 260 px, expected 240 x 180 px as before"):
        read_events(path)
    (tmp_path / "cut.bag").write_bytes(path.read_bytes()[:300])
    with pytest.raises(EventFormatError, match=r"cut.bag: .*, expected a complete ROS 1 bag"):
        read_events(tmp_path / "cut.bag")
    path = write_arrays(tmp_path / "empty.bag", kind, [])
    with pytest.raises(EventFormatError, match=r"empty.bag: (holds no topic|its event topic holds no messages)"):
        read_events(path)
    path = write_arrays(tmp_path / "no_size.bag", kind, [[], EVENTS], sizes=((0, 0),))
    x, y = (max(row[place] for row in EVENTS) for place in (2, 3))
    assert (read_events(path).width, read_events(path).height) == (x + 1, y + 1)

    path = write_arrays(tmp_path / "outside", kind, [EVENTS], sizes=((240, 100),))
    with pytest.warns(UserWarning, match="outside"):
        assert len(read_events(path)) == 2


def test_an_event_array_longer_than_its_message_names_its_bag(tmp_path: Path) -> None:
    path = write_arrays(tmp_path / "old.bag", EVENT_ARRAY_TYPES[0], [EVENTS])
    content = path.read_bytes()
    # The number of events stands behind the width of 240 px.
    path.write_bytes(content.replace(b"\xf0\0\0\0\3\0\0\0", b"\xf0\0\0\0\0\0\0\x70"))
    with pytest.raises(EventFormatError, match=r"old\.bag: an event array of 1879048192 events has \d+ bytes"):
        read_events(path)
