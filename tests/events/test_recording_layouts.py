# SPDX-License-Identifier: Apache-2.0
"""Layouts in which the field keeps its recordings: each written here by hand from its description, and read back."""

from __future__ import annotations

import gzip
import os
import struct
import warnings
from contextlib import suppress

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegnn_core.events import EVENT_DTYPE, EventFormatError, make_events, read_events
from aegnn_core.events.evt3_encoder import Evt3EncoderState, encode_evt3
from aegnn_core.events.files.ecf import decode_ecf
from aegnn_core.events.files.hdf5 import LAYOUTS
from aegnn_core.events.files.header import parse_geometry
from tests.events.foreign_formats import caer, evt2_words, evt4, evt21, jaer


def random_events(count=200, width=240, height=180, seed=1, step=900):
    """Events whose coordinates are in no order, from some milliseconds after 0 on."""
    rng = np.random.default_rng(seed)
    t = 1164 + np.cumsum(rng.integers(0, step, count))
    return make_events(
        t, rng.integers(width, size=count), rng.integers(height, size=count), rng.integers(2, size=count)
    )


EVENTS = random_events()


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def assert_reads(path, events=EVENTS, size=None, **options):
    stream = read_events(path, **options)
    for name in "txyp":
        np.testing.assert_array_equal(stream.events[name], events[name])
    if size is not None:
        assert (stream.width, stream.height) == size


# --- text -------------------------------------------------------------------------------------------------------------


def text(order, unit=1.0, separator=" ", decimals=0):
    number = {name: (lambda v: f"{v}") for name in "xyp"}
    number["t"] = lambda v: f"{v * unit:.{decimals}f}"
    return "".join(separator.join(number[name](int(event[name])) for name in order) + "\n" for event in EVENTS)


@pytest.mark.parametrize(
    ("name", "content", "size"),
    [
        ("ecd.txt", text("txyp", 1e-6, decimals=9), None),
        (
            "v2e.txt",
            "#!events.txt\n# Format is time, x, y, polarity\n" + text("txyp", 1e-6, decimals=6),
            None,
        ),
        ("e2vid.txt", "346 260\n" + text("txyp", 1e-6, decimals=6), (346, 260)),
        ("metavision.csv", text("xypt", separator=","), None),
        ("metavision.csv", "% geometry:240x180\n" + text("xypt", separator=","), None),
        ("named.csv", "x,y,p,t\n" + text("xypt", separator=","), None),
        ("named.csv", "timestamp;x;y;polarity\n" + text("txyp", separator="; "), None),
        ("named.csv", "p,t,x,y\n" + text("ptxy", separator=","), None),
        ("ncars.txt", text("xytp"), None),
        ("tabs.txt", text("txyp", separator="\t"), None),
        ("mark.csv", "\ufefft,x,y,p\r\n" + text("txyp", separator=",").replace("\n", "\r\n"), None),
        ("quoted.csv", '"t","x","y","p"\n' + text("txyp", separator=","), None),
        ("index.csv", ",t,x,y,p\n" + "".join(f"0,{line}\n" for line in text("txyp", separator=",").split()), None),
        ("unit.csv", "x,y,timestamp [ns],pol\n" + text("xytp", 1e3, separator=","), None),
        ("unit.csv", "t_ms,x,y,p\n" + text("txyp", 1e-3, separator=",", decimals=3), None),
        (
            "words.csv",
            "x,y,t,on\n" + text("xytp", separator=",").replace(",1\n", ",True\n").replace(",0\n", ",off\n"),
            None,
        ),
        ("size.csv", "%geometry:640,480\n" + text("xypt", separator=","), (640, 480)),
        ("size.txt", "# width 346\n# height = 260\n" + text("txyp"), (346, 260)),
        ("comment.txt", "# columns: t y x p\n" + text("tyxp", 1e-6, decimals=6), None),
        ("comment.csv", "# t_ms,x,y,p\n" + text("txyp", 1e-3, separator=",", decimals=3), None),
        ("spaced.txt", "timestamp [us] x y polarity\n" + text("txyp"), None),
        ("pixels.csv", "time_microseconds,x_px,y_px,polarity\n" + text("txyp", separator=","), None),
        ("rows.csv", "t,row,col,p\n" + text("tyxp", separator=","), None),
        ("comma.csv", "t;x;y;p\n" + text("txyp", 1e-6, ";", 6).replace(".", ","), None),
        ("quotes.csv", '"t","x","y","p"\n"' + text("txyp", separator='","').replace("\n", '"\n"')[:-1], None),
        ("tabs.tsv", text("txyp", separator="\t"), None),
        ("bars.csv", "t|x|y|p\n" + text("txyp", separator="|"), None),
        ("signs.csv", text("txyp", separator=",").replace(",1\n", ",+\n").replace(",0\n", ",negative\n"), None),
        ("remarks.txt", text("txyp", 1e-6, decimals=6).replace("\n", " # an event\n"), None),
        ("other.txt", text("tpxy", 1e-6, decimals=6), None),
        ("other.txt", text("pxyt", 1e-6, decimals=6), None),
    ],
)
def test_text_says_its_order_and_unit_by_its_numbers(tmp_path, name, content, size):
    (tmp_path / name).write_text(content)
    assert_reads(tmp_path / name, size=size)


def test_text_of_16_bits_and_a_last_line_that_is_cut_off(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(text("txyp", 1e-6, decimals=6), "utf16")
    assert_reads(path)
    path.write_text(text("txyp", 1e-6, decimals=6)[:-3])
    with pytest.warns(UserWarning, match=r"a\.txt: cut off, its last line '[\d. ]+' is left out"):
        assert_reads(path, EVENTS[:-1])


@pytest.mark.parametrize(
    ("content", "cut"),
    [
        (text("xypt", separator=","), range(2, 14)),  # a time without its last digits is a time as well
        ("t,x,y,p\n" + text("txyp", separator=",").replace(",0\n", ",-1\n"), range(2, 10)),
        (text("txyp", separator=",").replace(",0\n", ",False\n").replace(",1\n", ",True\n"), range(2, 12)),
    ],
)
def test_an_event_that_is_cut_off_is_left_out(tmp_path, content, cut):
    path = tmp_path / "a.csv"
    for missing in cut:
        path.write_text(content[:-missing])
        with pytest.warns(UserWarning, match=r"a\.csv: cut off"):
            assert_reads(path, EVENTS[:-1])


def test_a_header_of_one_byte_a_letter(tmp_path):
    (tmp_path / "a.csv").write_text("t [µs],x,y,p\n" + text("txyp", separator=","), "latin1")
    assert_reads(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "content",
    [
        "t;x;y;p\n0;10;0;1\n0,001;11;1;0\n",  # the first event's line has no comma
        "t,x,note,y,p,more\n0.0,10,,0,1,7\n0.001,11,,1,0,7\n",
        "t,y,x,p,note\n0.0,0,10,1,\n0.001,1,11,0,\n",
        "t [\N{GREEK SMALL LETTER MU}s],x,y,p\n0.2,10,0,1\n1000.2,11,1,0\n",
    ],
)
def test_every_number_stays_in_its_column(tmp_path, content):
    path = tmp_path / "a.csv"
    path.write_text(content, "utf8")
    assert read_events(path).events.tolist() == [(0, 10, 0, 1), (1000, 11, 1, 0)]


@pytest.mark.parametrize("kind", ["u2", "u4", "u8", "i4", "f4"])
def test_the_order_of_a_table_is_found_in_numbers_of_any_kind(tmp_path, kind):
    events = random_events(200, step=300)
    np.save(tmp_path / "a.npy", np.stack([events[name] for name in "xytp"], axis=1).astype(kind))
    assert_reads(tmp_path / "a.npy", events)


def test_columns_in_no_known_order_are_refused(tmp_path):
    """In place of the usual order, whose error would be about another column than is meant."""
    path = tmp_path / "a.txt"
    path.write_text("".join(text("txyp", 1e-6, decimals=6).splitlines(keepends=True)[::-1]))
    with pytest.raises(EventFormatError, match=r"a\.txt: its columns are in no known order, such as txyp.* columns="):
        read_events(path)


def test_names_that_are_not_known_want_an_option(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("when,where_x,where_y,sign\n" + text("txyp", separator=","))
    with pytest.raises(
        EventFormatError, match=r"a\.csv: begins with 'when,where_x,where_y,sign', .* order with columns="
    ):
        read_events(path)
    assert_reads(path, columns="txyp")
    path.write_text("x,y,p,t\n" + text("xypt", separator=","))
    assert_reads(path, columns="xypt")


@pytest.mark.parametrize(
    ("names", "finer"),
    [("ts_sec, ts_nsec", 1000), ("secs, nsecs", 1000), ("stamp.sec, stamp.nanosec", 1000), ("t_s, t_us", 1)],
)
def test_seconds_and_what_is_beyond_them_are_one_time(tmp_path, names, finer):
    events = EVENTS.copy()
    events["t"] += 1_700_000_000_950_000  # since 1970, over the end of a second
    seconds, beyond = np.divmod(events["t"], 10**6)
    columns = [seconds, beyond * finer, events["x"], events["y"], events["p"]]
    lines = [", ".join(map(str, row)) for row in zip(*columns, strict=True)]
    (tmp_path / "a.csv").write_text("\n".join([f"{names}, x, y, p", *lines]))
    named = dict(zip([*names.split(", "), *"xyp"], columns, strict=True))
    np.savez(tmp_path / "a.npz", **named)
    for file in ("a.csv", "a.npz"):
        assert_reads(tmp_path / file, events)
        with pytest.raises(EventFormatError, match=f"{file}: has columns of seconds and of .*, expected no time_unit="):
            read_events(tmp_path / file, time_unit="ns")

    latest = [
        seconds,
        np.where(beyond == beyond.max(), 999_999 * finer + finer * 999 // 1000, beyond * finer),
        *columns[2:],
    ]
    lines = [", ".join(map(str, row)) for row in zip(*latest, strict=True)]
    (tmp_path / "a.csv").write_text("\n".join([f"{names}, x, y, p", *lines]))
    found = read_events(tmp_path / "a.csv").events["t"]
    np.testing.assert_array_equal(found, seconds * 10**6 + latest[1] // finer)

    beyond_them = names.split(", ")[1]
    np.savez(tmp_path / "a.npz", **named | {beyond_them: events["t"] * finer})  # all of the time
    assert_reads(tmp_path / "a.npz", events)
    np.savez(tmp_path / "a.npz", **named | {beyond_them: (beyond + 10**7) * finer})
    with pytest.raises(EventFormatError, match=r"a\.npz: its columns of seconds and of .* do not go together"):
        read_events(tmp_path / "a.npz")


def test_order_and_unit_of_text_can_be_told(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("3 4 5 1\n5 6 7 0\n")
    assert read_events(path, columns="txyp", time_unit="ms").events.tolist() == [(3000, 4, 5, 1), (5000, 6, 7, 0)]
    assert read_events(path, columns="xytp", time_unit="us").events.tolist() == [(5, 3, 4, 1), (7, 5, 6, 0)]
    with pytest.raises(ValueError, match="columns='txy', expected the letters t, x, y and p in their order"):
        read_events(path, columns="txy")
    with pytest.raises(ValueError, match="time_unit='h', expected one of s, ms, us, ns"):
        read_events(path, time_unit="h")


def test_an_order_that_is_not_clear_wants_an_option(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("5,0,1,0\n6,0,1,1\n")
    with pytest.raises(EventFormatError, match=r"a\.csv: its columns can be txyp or xypt, .* say which with columns="):
        read_events(path)
    assert read_events(path, columns="txyp").events.tolist() == [(5, 0, 1, 0), (6, 0, 1, 1)]


@pytest.mark.parametrize("suffix", [".txt", ".csv"])
def test_a_line_without_end_is_refused_at_once(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with path.open("wb") as file:
        file.truncate(10 << 30)
    with pytest.raises(EventFormatError, match=rf"a\{suffix}: a line is longer than 4096 characters"):
        read_events(path)


# --- NumPy ------------------------------------------------------------------------------------------------------------


def table(order, events=EVENTS):
    return np.stack([events[name].astype(np.int64) for name in order], axis=1)


@pytest.mark.parametrize("order", ["txyp", "xytp", "xypt"])
@pytest.mark.parametrize("kind", [np.int64, np.float64, np.float32])
def test_tables_in_npy_say_their_order(tmp_path, order, kind):
    np.save(tmp_path / "a.npy", table(order).astype(kind))
    assert_reads(tmp_path / "a.npy")


def test_npy_with_times_in_seconds(tmp_path):
    events = np.empty(len(EVENTS), [("timestamp", float), ("x", "u2"), ("y", "u2"), ("polarity", "i1")])
    events["timestamp"], events["x"], events["y"] = EVENTS["t"] / 1e6, EVENTS["x"], EVENTS["y"]
    events["polarity"] = 2 * EVENTS["p"].astype(int) - 1
    np.save(tmp_path / "a.npy", events)
    assert_reads(tmp_path / "a.npy")


@pytest.mark.parametrize("order", ["txyp", "xypt"])
def test_arrays_with_a_side_more_or_the_other_way_round(tmp_path, order):
    path = tmp_path / "a.npy"
    np.save(path, table(order).T)
    assert_reads(path)
    np.save(path, EVENTS[:, None])
    assert_reads(path)
    path = tmp_path / "a.npz"
    np.savez(path, **{name: EVENTS[name][:, None] for name in "txyp"})
    assert_reads(path)
    np.savez(path, recording=table(order))
    assert_reads(path)


def test_n_imagenet(tmp_path):
    events = np.empty(len(EVENTS), [("x", "u2"), ("y", "u2"), ("t", "u4"), ("p", "?")])
    for name in "txyp":
        events[name] = EVENTS[name]
    np.savez(tmp_path / "a.npz", event_data=events)
    assert_reads(tmp_path / "a.npz")


def test_nanoseconds_are_read_as_such_when_told_and_warned_of_otherwise(tmp_path):
    path = tmp_path / "a.npz"
    columns = {name: EVENTS[name].astype(np.int64) for name in "xyp"}
    np.savez(path, t=1000 * EVENTS["t"], **columns)
    assert_reads(path, time_unit="ns")
    with pytest.warns(UserWarning, match=r'a\.npz: .* if they are nanoseconds, read it with time_unit="ns"'):
        read_events(path)
    since_1970 = 1_700_000_000 * 10**6
    np.savez(path, t=(since_1970 + EVENTS["t"]) * 1000 + 7, **columns)
    assert (read_events(path).events["t"] == since_1970 + EVENTS["t"]).all()
    np.savez(path, t=since_1970 + EVENTS["t"], **columns)
    assert (read_events(path).events["t"] == since_1970 + EVENTS["t"]).all()


@pytest.mark.parametrize(
    ("unit", "count", "step", "message"),
    [
        (1e-3, 200, 100_000, r"200 events would last \d+ s with times in s; if they are milliseconds"),
        (1e-3, 200, 1_000_000, r"200 events would last \d+ s with times in s; if they are microseconds"),
        (1e-6, 2000, 1e3, r"2000 events would last \d µs, faster than any camera, .*; if they are milliseconds"),
    ],
)
def test_times_that_no_camera_has_are_warned_of(tmp_path, unit, count, step, message):
    t = np.arange(count) * step * unit + (0.125 if unit == 1e-3 else 0)
    t = t if unit == 1e-3 else t.astype(np.int64)
    np.savez(tmp_path / "a.npz", t=t, x=np.arange(count), y=np.arange(count), p=np.ones(count, int))
    with pytest.warns(UserWarning, match=r"a\.npz: " + message):
        read_events(tmp_path / "a.npz")


def test_times_in_floats_that_are_too_coarse_are_warned_of(tmp_path):
    table = np.stack([EVENTS[name] for name in "txyp"], axis=1).astype(np.float64)
    table[:, 0] = 1_700_000_000 + table[:, 0] * 1e-6
    np.save(tmp_path / "a.npy", table.astype(np.float32))
    with pytest.warns(UserWarning, match=r"a\.npy: times in us are numbers of float32, .* that are 128 us or more"):
        read_events(tmp_path / "a.npy")


def test_pixels_that_no_camera_has_are_warned_of(tmp_path):
    """Some data sets keep rectified coordinates as multiples of a pixel's fraction."""
    np.savez(
        tmp_path / "a.npz", **{name: EVENTS[name].astype(np.int64) * (32 if name in "xy" else 1) for name in "txyp"}
    )
    with pytest.warns(UserWarning, match=r"a\.npz: x and y go to \d+ and \d+, beyond the pixels of any camera"):
        read_events(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("arrays", "size"),
    [
        ({"events_t": "t", "events_x": "x", "events_y": "y", "events_p": "p"}, None),
        ({"timestamps": "t", "x_px": "x", "y_px": "y", "polarities": "p"}, None),
        ({"time_us": "t", "x": "x", "y": "y", "p": "p", "resolution": np.array([480, 640])}, (640, 480)),
        ({"data": "txyp", "label": np.array(3), "K": np.eye(3)}, None),
    ],
)
def test_names_of_arrays_and_sizes_of_other_sources(tmp_path, arrays, size):
    columns = {name: EVENTS[name].astype(np.int64)[None] for name in "txyp"}  # also as rows, as other software has them
    columns["txyp"] = np.stack([columns[name][0] for name in "txyp"], axis=1)
    np.savez(
        tmp_path / "a.npz", **{name: columns[what] if isinstance(what, str) else what for name, what in arrays.items()}
    )
    assert_reads(tmp_path / "a.npz", size=size)


def test_an_npz_that_would_fill_the_memory_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, t=np.zeros(1 << 24, np.int64), **{name: np.zeros(1 << 24, np.uint8) for name in "xyp"})
    with pytest.raises(EventFormatError, match=r"a\.npz: \d+ bytes would unpack to \d+, expected events"):
        read_events(path)


def test_an_npy_that_states_more_than_it_has_is_refused(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, EVENTS)
    path.write_bytes(path.read_bytes().replace(b"(200,)", b"(9999999999,)".ljust(6))[:4000])
    with pytest.raises(EventFormatError, match=r"a\.npy: "):
        read_events(path)


# --- HDF5 -------------------------------------------------------------------------------------------------------------


def write_group(group, events=EVENTS, names="txyp", **changed):
    for name, own in zip("txyp", names.split() if " " in names else names, strict=True):
        group[own] = changed.get(name, events[name])


def test_rvt_states_its_size_in_data_sets_and_has_late_times(tmp_path):
    path = tmp_path / "sorted_td.dat.h5"
    late = EVENTS.copy()
    late["t"][100] -= 1500
    with h5py.File(path, "w") as file:
        write_group(file.create_group("events"), late)
        file["events/width"], file["events/height"] = 1280, 720
    with pytest.warns(UserWarning, match="late events, lifted to the time before them: 1"):
        stream = read_events(path)
    assert (stream.width, stream.height) == (1280, 720)
    assert stream.events["t"][100] == EVENTS["t"][99]


def test_event_utils_has_seconds_and_a_resolution(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["sensor_resolution"] = (260, 346)
        write_group(file.create_group("events"), names="ts xs ys ps", t=EVENTS["t"] / 1e6, p=EVENTS["p"].astype(bool))
    assert_reads(path, size=(346, 260))


@pytest.mark.parametrize("stated", [[180, 240], [240, 180], [180, 240, 2], "240x180", np.bytes_("240 x 180")])
def test_columns_without_a_group_and_resolutions_of_any_kind(tmp_path, stated):
    """Neither order of the sides is a rule, but sensors are not higher than wide."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        write_group(file, EVENTS[:150])
        file.attrs["sensor_resolution"] = stated
    assert_reads(path, EVENTS[:150], (240, 180))


def test_v2e_has_one_table(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["events"] = table("txyp").astype(np.uint32)
    assert_reads(path)


def test_mvsec_has_two_cameras_and_the_left_one_counts_unless_told(tmp_path):
    path = tmp_path / "a.hdf5"
    other = random_events(seed=2)
    with h5py.File(path, "w") as file:
        for side, events in (("left", EVENTS), ("right", other)):
            matrix = table("xytp", events).astype(float)
            matrix[:, 2] = 1_506_119_776 + matrix[:, 2] / 1e6
            matrix[:, 3] = 2 * matrix[:, 3] - 1
            file[f"davis/{side}/events"] = matrix
    for options, events in (({}, EVENTS), ({"stream": "davis/left"}, EVENTS), ({"stream": "/davis/right"}, other)):
        stream = read_events(path, **options)
        np.testing.assert_allclose(stream.events["t"] - 1_506_119_776 * 10**6, events["t"], atol=1)
        np.testing.assert_array_equal(stream.events["x"], events["x"])
    with pytest.raises(EventFormatError, match=r"no events at 'middle', expected stream= one of davis/left/events, d"):
        read_events(path, stream="middle")


def test_m3ed_states_its_size_in_the_calibration(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for side in ("left", "right"):
            write_group(file.create_group(f"prophesee/{side}"))
            file[f"prophesee/{side}/calib/resolution"] = (1280, 720)
            file[f"prophesee/{side}/ms_map_idx"] = np.zeros(5, int)
    assert_reads(path, size=(1280, 720))
    assert_reads(path, stream="prophesee/right")


def write_columns(path, *places, unit=None, **kinds):
    with h5py.File(path, "w") as file:
        for place in places:
            for name in "txyp":
                file[f"{place}/{name}"] = kinds.get(name, EVENTS[name])
            if unit is not None:
                file[f"{place}/t"].attrs["unit"] = unit


def test_another_layout_is_read_where_only_one_place_has_events(tmp_path):
    path = tmp_path / "a.h5"
    write_columns(path, "camera0/events")
    assert_reads(path)
    write_columns(path, "left/events", "right/events")
    with pytest.raises(EventFormatError, match=r"a\.h5: holds events at left/events, right/events, .* with stream="):
        read_events(path)
    assert_reads(path, stream="right/events")
    with pytest.raises(EventFormatError, match=r"has no events at 'right', expected stream= one of left/events, right"):
        read_events(path, stream="right")
    with h5py.File(path, "w") as file:
        file["data/table"] = np.stack([EVENTS[name] for name in "xytp"], axis=1)
        file["calibration"] = np.eye(4)
    assert_reads(path)


def test_units_and_offsets_of_hdf5(tmp_path):
    path = tmp_path / "a.h5"
    for unit in ("ns", "nanoseconds"):
        write_columns(path, "events", unit=unit, t=EVENTS["t"] * 1000)
        assert_reads(path)
    write_columns(path, "events", t=EVENTS["t"] * 1e-6)
    with h5py.File(path, "a") as file:
        file["t_offset"] = np.array([2])
    later = EVENTS.copy()
    later["t"] += 2_000_000
    assert_reads(path, later)


def test_every_layout_has_a_source_and_a_place_of_its_own():
    assert len({layout.place for layout in LAYOUTS}) == len(LAYOUTS)
    assert all(layout.source and sorted(layout.order) == sorted("txyp") for layout in LAYOUTS)


def test_a_few_bytes_of_hdf5_do_not_claim_the_memory(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name in "txyp":
            file.create_dataset(f"events/{name}", (10**8,), np.int64, chunks=(1 << 16,), compression="gzip")
    with pytest.raises(EventFormatError, match=r"a\.h5: states 3200000000 bytes of events, 0 of them packed"):
        read_events(path)
    with pytest.raises(EventFormatError, match=r"a\.h5: holds 100000000 events, expected at most 1000"):
        read_events(path, max_events=1000)


@pytest.mark.parametrize("how", ["link", "link to a group", "storage", "virtual", "size"])
def test_hdf5_that_leads_to_other_files_is_refused(tmp_path, how):
    """They can be pipes, which are waited for without end."""
    os.mkfifo(tmp_path / "pipe")
    other, path = str(tmp_path / "pipe"), tmp_path / "a.h5"
    external = {"shape": (1,), "dtype": "i8", "external": [(other, 0, h5py.h5f.UNLIMITED)]}
    with h5py.File(path, "w") as file:
        for name in "txyp":
            file[f"events/{name}"] = EVENTS[name]
        del file["events/p"]
        if how == "storage":
            file.create_dataset("events/p", **external)
        elif how == "virtual":
            layout = h5py.VirtualLayout((10,), "i8")
            layout[:] = h5py.VirtualSource(other, "p", (10,))
            file.create_virtual_dataset("events/p", layout)
        elif how == "size":
            file["events/p"] = EVENTS["p"]
            for name in ("width", "height"):
                file.create_dataset(f"events/{name}", **external)
        else:
            file["events/p" if how == "link" else "other"] = h5py.ExternalLink(other, "/p")
    with pytest.raises(
        EventFormatError, match=r"a\.h5: .* in another file, expected a complete HDF5 file that leads to no"
    ):
        read_events(path)


def test_a_hole_in_a_raw_file_is_not_searched_for_events(tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(b"% evt 3.0\n% end\n" + np.array([0x8000, 0x6000, 0x0001, 0x2001], "<u2").tobytes())
    os.truncate(path, 100 << 30)
    with pytest.raises(EventFormatError, match=r"a\.raw: has no event in the \d+ bytes before byte"):
        read_events(path)


def test_chunks_that_are_missing_are_not_taken_for_events(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name in "txyp":
            dataset = file.create_dataset(f"events/{name}", data=EVENTS[name], chunks=(1,), maxshape=(None,))
            dataset.resize((200_000,))
    with pytest.raises(EventFormatError, match=r"a\.h5: /events/t has 200 of its 200000 chunks, expected a complete"):
        read_events(path)


def test_a_sensor_without_pixels_is_refused_by_name(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        write_group(file.create_group("events"))
        file.attrs["geometry"] = "0x5"
    with pytest.raises(EventFormatError, match=r"a\.h5: sensor size is 0 x 5 px"):
        read_events(path)


# --- ECF --------------------------------------------------------------------------------------------------------------


def runs(values, size, bits):
    """Values as a codec's runs: each above a count, or above all ones and then the count."""
    packed, start, longest = b"", 0, (1 << bits) - 1
    while start < len(values):
        stop = start
        while stop < len(values) and values[stop] == values[start] and stop - start < 65_535:
            stop += 1
        count = stop - start
        word = values[start] << bits | min(count, longest)
        packed += word.to_bytes(size, "little") + (count.to_bytes(2, "little") if count >= longest else b"")
        start = stop
    return packed


def quartets(values, size):
    """Four values of 6 x size bits in three words."""
    packed, quarter = b"", 2 * size
    for start in range(0, len(values), 4):
        a, b, c, d = (*values[start : start + 4], 0, 0, 0)[:4]
        low = lambda v, n: v & (1 << n * quarter) - 1  # noqa: E731
        words = (
            a << quarter | low(b, 1),
            (b >> quarter) << 2 * quarter | low(c, 2),
            (c >> 2 * quarter) << 3 * quarter | d,
        )
        packed += b"".join(word.to_bytes(size, "little") for word in words)
    return packed


def neighbours(x):
    packed, i = b"", 0
    while i < len(x):
        base, mask, i = x[i], 0, i + 1
        for k in range(5):
            if i < len(x) and x[i] == base + k + 1:
                mask, i = mask | 1 << (4 - k), i + 1
        packed += (base << 5 | mask).to_bytes(2, "little")
    return packed


def times(t):
    packed, now, i = int(t[0]).to_bytes(8, "little"), t[0], 0
    while i < len(t):
        step = t[i] - now
        now = t[i]
        if step >= 15:
            while step:
                packed += bytes([0xF0 | step & 15])
                step >>= 4
        count = 1
        while i + count < len(t) and t[i + count] == now:
            count += 1
        packed += bytes([step << 4 | min(count, 15)]) + (count.to_bytes(2, "little") if count >= 15 else b"")
        i += count
    return packed


def ecf(events, packing):
    t, x, y, p = (events[name].astype(int).tolist() for name in "txyp")
    flags = {"together": 2, "x with p": 1, "neighbours": 0}[packing]
    header = (len(t) << 2 | flags).to_bytes(4, "little") + times(t)
    if packing == "together":
        return header + quartets([row << 12 | column << 1 | on for column, row, on in zip(x, y, p, strict=True)], 4)
    if packing == "x with p":
        return header + runs(y, 2, 5) + quartets([column << 1 | on for column, on in zip(x, p, strict=True)], 2)
    return header + runs(y, 2, 5) + neighbours(x) + runs(p, 1, 7)


@pytest.mark.parametrize("packing", ["together", "x with p", "neighbours"])
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from([0, 1, 14, 15, 16, 4095, 10**9]),
            st.integers(0, 2047),
            st.integers(0, 2047),
            st.integers(0, 1),
            st.integers(1, 200),
        ),
        min_size=1,
        max_size=20,
    ),
    start=st.integers(0, 2**40),
)
def test_ecf_chunks_decode_to_what_was_packed(packing, rows, start):
    t, columns = start, []
    for step, column, row, on, count in rows:
        t += step
        columns += [(t, min(column + k, 2047), row, on) for k in range(count)]
    events = np.array(columns, EVENT_DTYPE)
    np.testing.assert_array_equal(decode_ecf(ecf(events, packing)), events)


@given(chunk=st.binary(min_size=0, max_size=200), count=st.integers(0, 100))
def test_random_ecf_chunks_decode_or_are_refused(chunk, count):
    for flags in range(4):
        with suppress(EventFormatError):
            assert len(decode_ecf((count << 2 | flags).to_bytes(4, "little") + chunk)) == count


@pytest.mark.parametrize("packing", ["together", "x with p", "neighbours"])
def test_metavision_files_are_read_without_their_codec(tmp_path, packing):
    path, size = tmp_path / "a.hdf5", 64
    layout = np.dtype({"names": list("xypt"), "formats": ["<u2", "<u2", "<i2", "<i8"], "offsets": [0, 2, 4, 8]})
    with h5py.File(path, "w") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((size,))
        plan.set_filter(0x8ECF, h5py.h5z.FLAG_OPTIONAL, ())
        kind = h5py.h5t.py_create(layout, logical=True)
        file.create_group("CD")
        space = h5py.h5s.create_simple((len(EVENTS),))
        dataset = h5py.h5d.create(file.id, b"CD/events", kind, space, plan)
        for start in range(0, len(EVENTS), size):
            chunk = np.zeros(size, EVENT_DTYPE)
            part = EVENTS[start : start + size]
            chunk[: len(part)], chunk["t"][len(part) :] = part, part["t"][-1]
            dataset.write_direct_chunk((start,), ecf(chunk, packing))
        file.attrs["geometry"] = "1280x720"
    assert_reads(path, size=(1280, 720))
    content = path.read_bytes()
    first = content.index(ecf(EVENTS[:size], packing)[:12])
    path.write_bytes(content[:first] + b"\xff\xff\xff\xff" + content[first + 4 :])
    with pytest.raises(EventFormatError, match=r"a\.hdf5: chunk 0: an ECF chunk states \d+ events, expected at most"):
        read_events(path)


# --- RAW --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        ("% format EVT21;endianness=legacy;height=320;width=320\n% end\n", evt21(EVENTS, True)),
        ("% format EVT21;height=320;width=320\n% end\n", evt21(EVENTS, False)),
        ("% evt 2.1\n% geometry 320x320\n% endianness little\n% system_ID 49\n", evt21(EVENTS, False)),
        ("% evt 2.1\n% geometry 320x320\n% system_ID 49\n", evt21(EVENTS, True)),
        ("% evt 2.1\n% geometry 320x320\n", evt21(EVENTS, True)),
        ("% format EVT21;height=320;width=320\n% end\n", evt21(EVENTS, True)),
        ("% format EVT4;height=320;width=320\n% end\n", evt4(EVENTS)),
        ("% evt 4.0\n% geometry 320x320\n% end\n", evt4(EVENTS)),
    ],
)
def test_evt21_in_both_byte_orders_and_evt4(tmp_path, header, payload):
    path = tmp_path / "a.raw"
    path.write_bytes(header.encode() + payload)
    assert_reads(path, size=(320, 320))


def test_words_of_another_encoding_than_the_header_says_are_refused(tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(b"% evt 2.0\n" + encode_evt3(random_events(3000), Evt3EncoderState()))
    with pytest.raises(
        EventFormatError,
        match=r"a\.raw: \d+ of \d+ words are not of EVT2, as the header calls them, and \d+ events are",
    ):
        read_events(path)


@pytest.mark.parametrize("stated", ["2.0", "2.1", "3.0", "4.0"])
@pytest.mark.parametrize("held", ["2.0", "2.1", "3.0", "4.0"])
@pytest.mark.parametrize("size", ["", "% geometry 240x180\n"])
def test_no_encoding_is_read_as_another(tmp_path, stated, held, size):
    """A header that states another encoding than the file holds is a refusal, never events."""
    path, events = tmp_path / "a.raw", random_events(3000, step=400)
    payload = {
        "2.0": evt2_words,
        "2.1": lambda events: evt21(events, upper_first=False),
        "3.0": lambda events: encode_evt3(events, Evt3EncoderState()),
        "4.0": evt4,
    }[held](events)
    path.write_bytes(f"% evt {stated}\n{size}% end\n".encode() + payload)
    if stated == held:
        assert_reads(path, events)
    else:
        with pytest.raises(EventFormatError, match=r"a\.raw: "):
            read_events(path)


def test_runs_of_evt21_and_evt4_are_pixels_beside_each_other(tmp_path):
    bits = 0x8000_0005
    expected = [(64 + 3, 7 + k, 9, 1) for k in (0, 2, 31)]
    base = (3 << 22) | 7 << 11 | 9
    path = tmp_path / "a.raw"
    for form, words in (
        ("EVT21;endianness=legacy", [8 << 28 | 1, 0, 1 << 28 | base, bits]),
        ("EVT4", [14 << 28 | 1, 0xFFFF_FFFF, 13 << 28 | base, bits, 6 << 28, 7 << 28]),
    ):
        path.write_bytes(
            f"% format {form};width=50;height=50\n% end\n".encode() + struct.pack(f"<{len(words)}I", *words)
        )
        assert read_events(path).events.tolist() == expected


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1280x720", (1280, 720)),
        ("1280X720", (1280, 720)),
        ("1280 x 720", (1280, 720)),
        ("1280*720", (1280, 720)),
        ("1280×720", (1280, 720)),
        ("1280, 720", (1280, 720)),
        ("1280 720", (1280, 720)),
        ("1280 px x 720 px", (1280, 720)),
        ("wide", None),
        ("1280", None),
    ],
)
def test_a_geometry_may_be_spelt_in_any_way(text, size):
    assert parse_geometry(text) == size


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ("% evt 4.0\n% system_ID 49\n", (1280, 720)),
        ("% evt 4.0\n% system_id 0x1C\n", (640, 480)),
        ("% evt 4.0\n% system_ID 64\n", (320, 320)),
        ("%evt 4.0\n%geometry: 640X480\n%end\n", (640, 480)),
        ("% evt 4.0\n% Geometry 640 x 480\n% integrator Caméra\n% end\n", (640, 480)),
    ],
)
def test_a_size_in_the_header_may_be_a_number_of_a_camera(tmp_path, header, size):
    path = tmp_path / "a.raw"
    for encoding in ("utf8", "latin1"):
        path.write_bytes(header.encode(encoding) + evt4(EVENTS))
        assert_reads(path, size=size)


def test_padding_and_continued_words_are_no_flaws(tmp_path):
    path = tmp_path / "a.raw"
    words = [0x9999, 0x8000, 0x6005, 0x0003, 0xE123, 0xF001, 0x7002, 0x2801, 0x9999, 0x9999]
    path.write_bytes(b"% evt 3.0\n% end\n" + struct.pack(f"<{len(words)}H", *words))
    assert read_events(path).events.tolist() == [(5, 1, 3, 1)]


# --- DAT, AER-40 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["% Version 1\n", "% Data file containing TD events\n"])
def test_dat_version_1_has_its_fields_elsewhere(tmp_path, header):
    events = random_events(width=304, height=240)
    words = np.empty((len(events), 2), "<u4")
    x, y, p = (events[name].astype(np.uint32) for name in "xyp")
    words[:, 0], words[:, 1] = events["t"], x | y << 9 | p << 17
    path = tmp_path / "a.dat"
    path.write_bytes(header.encode() + b"\x00\x08" + words.tobytes())
    assert_reads(path, events)


def test_dat_without_a_version_is_the_one_that_fits_its_size(tmp_path):
    path = tmp_path / "a_td.dat"
    events = random_events(100, 304, 240)
    words = np.stack(
        [events["t"], events["x"] | events["y"].astype(np.uint32) << 9 | events["p"].astype(np.uint32) << 17], 1
    )
    path.write_bytes(b"% Height 240\n% Width 304\n\x00\x08" + words.astype("<u4").tobytes())
    assert_reads(path, events, (304, 240))


def test_dat_times_go_on_after_32_bits(tmp_path):
    words = np.array([[2**32 - 10, 1], [5, 2], [7, 3]], "<u4")
    path = tmp_path / "a.dat"
    path.write_bytes(b"% Version 2\n\x00\x08" + words.tobytes())
    assert read_events(path).events["t"].tolist() == [2**32 - 10, 2**32 + 5, 2**32 + 7]


def test_aer40_overflow_marks_are_no_events_and_move_the_time(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(bytes([10, 20, 128, 3, 232, 0, 240, 0, 0, 0, 11, 21, 0, 1, 0, 5, 240, 0, 0, 0, 12, 22, 0, 0, 9]))
    assert read_events(path).events.tolist() == [(1000, 10, 20, 1), (8192 + 256, 11, 21, 0), (16384 + 9, 12, 22, 0)]


# --- AEDAT ------------------------------------------------------------------------------------------------------------


SMALL = random_events(width=128, height=128)


@pytest.mark.parametrize("chip", ["", "# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n"])
def test_aedat_2_of_a_dvs128(tmp_path, chip):
    path = tmp_path / "a.aedat"
    path.write_bytes(jaer(SMALL, chip, lambda x, y, p: y << 8 | (127 - x) << 1 | (1 - p)))
    assert_reads(path, SMALL, (128, 128))


def test_rows_that_count_from_the_lower_edge_are_turned(tmp_path):
    path = tmp_path / "a.aedat"
    path.write_bytes(jaer(SMALL, "", lambda x, y, p: (127 - y) << 8 | (127 - x) << 1 | (1 - p)))
    assert_reads(path, SMALL, (128, 128), rows="up")
    with pytest.raises(ValueError, match=r"a\.aedat: rows='left', expected down or up"):
        read_events(path, rows="left")


def test_aedat_2_of_a_davis(tmp_path):
    path = tmp_path / "a.aedat"
    chip = "# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C\r\n#End Of ASCII Header\r\n"
    content = jaer(EVENTS, chip, lambda x, y, p: y << 22 | (239 - x) << 12 | p << 11)
    frame_sample = struct.pack(">2I", 0x8000_1234, 1_000)
    path.write_bytes(content + frame_sample)
    assert_reads(path, size=(240, 180))
    path.write_bytes(content.replace(b"DAVIS240C", b"Cochlea"))
    with pytest.raises(EventFormatError, match=r"a\.aedat: is of the chip '.*Cochlea', expected one of dvs128"):
        read_events(path)


def test_aedat_2_of_another_camera_has_to_name_it(tmp_path):
    path = tmp_path / "a.aedat"
    path.write_bytes(jaer(EVENTS, "", lambda x, y, p: (239 - x) << 12 | y << 22 | p << 11))
    with pytest.raises(
        EventFormatError, match=r"a\.aedat: names no chip, and its addresses have more than the 16 bits"
    ):
        read_events(path)


def test_aedat_31_counts_overflows_and_leaves_out_other_packets(tmp_path):
    path = tmp_path / "a.aedat"
    special = struct.pack("<2h6i", 0, 1, 8, 4, 0, 1, 1, 1) + bytes(8)
    path.write_bytes(caer((1, 0, SMALL)) + special + caer((1, 1, SMALL))[len(caer()) :])
    later = SMALL.copy()
    later["t"] += 1 << 31
    assert_reads(path, np.concatenate([SMALL, later]), (128, 128))
    path.write_bytes(caer((1, 0, SMALL), (1, 0, SMALL[-1:]))[:-3])
    with pytest.warns(UserWarning, match="bytes of partial words: 5"):
        assert_reads(path, SMALL)


@pytest.mark.parametrize("run", [1, 2, 3, 7, 400])
def test_aedat_31_with_serialized_timestamps(tmp_path, run):
    """Events of one time after each other have it in common, from three on; other packets are as they were."""
    path = tmp_path / "a.aedat"
    events = np.concatenate([SMALL, random_events(6000, width=128, height=128)])
    events["t"] = np.arange(len(events)) // run * 7
    packed = b""
    for t in np.unique(events["t"]):
        words = [(x << 17 | y << 2 | p << 1 | 1, t) for _, x, y, p in events[events["t"] == t].tolist()]
        if len(words) >= 3:
            (first, _), (second, _), *rest = words
            packed += struct.pack("<4I", first, t | 1 << 31, second, len(rest))
            packed += struct.pack(f"<{len(rest)}I", *(data for data, _ in rest))
        else:
            packed += b"".join(struct.pack("<2I", *word) for word in words)
    head = caer().replace(b"RAW", b"SerializedTS, PNGFrames")
    count, frame = len(events), struct.pack("<H h 6i", 0x8002, 1, 99, 4, 0, 5, 1, 1) + bytes(5)
    header = struct.pack("<H h 6i", 0x8001, 1, 8, 4, 0, len(packed), count, count)
    path.write_bytes(head + frame + header + packed)
    assert_reads(path, events, (128, 128))
    wrong = struct.pack("<H h 6i", 0x8001, 1, 8, 4, 0, len(packed), count + 1, count)
    path.write_bytes(head + wrong + packed)
    with pytest.raises(EventFormatError, match=rf"a packet unpacks to {count} events, expected {count + 1} as it"):
        read_events(path)


def test_aedat_31_of_two_cameras_wants_a_choice(tmp_path):
    path = tmp_path / "a.aedat"
    path.write_bytes(caer((1, 0, SMALL), (2, 0, EVENTS), source="#Source 1: DVS128\r\n#Source 2: DAVIS240C\r\n"))
    with pytest.raises(EventFormatError, match=r"a\.aedat: holds events of the sources 1, 2, .* with stream="):
        read_events(path)
    assert_reads(path, EVENTS, (240, 180), stream=2)


def test_other_versions_of_aedat_are_named(tmp_path):
    path = tmp_path / "a.aedat"
    path.write_bytes(b"#!AER-DAT4.0\r\n")
    with pytest.raises(EventFormatError, match=r"is AEDAT 4\.0, expected .*rename the file to \.aedat4"):
        read_events(path)
    path.write_bytes(caer((1, 0, SMALL)).replace(b"RAW", b"LZMA"))
    with pytest.raises(EventFormatError, match="is packed as LZMA, expected RAW or SerializedTS"):
        read_events(path)


# --- all --------------------------------------------------------------------------------------------------------------


def test_what_is_packed_or_only_zeros_is_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(gzip.compress(text("txyp").encode()))
    with pytest.raises(EventFormatError, match=r"a\.csv: is packed by gzip, expected \.csv itself; unpack it first"):
        read_events(tmp_path / "a.csv")
    (tmp_path / "a.bin").write_bytes(bytes(500))
    with pytest.raises(EventFormatError, match=r"a\.bin: holds 500 zeros, expected events of five bytes"):
        read_events(tmp_path / "a.bin")


@pytest.mark.parametrize("kind", ["npy", "npz", "h5"])
def test_an_order_is_not_for_columns_that_have_names(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    events = make_events([5, 6], [3, 4], [2, 1], [1, 0])
    if kind == "npy":
        np.save(path, events)
    elif kind == "npz":
        np.savez(path, **{name: events[name] for name in "txyp"})
    else:
        with h5py.File(path, "w") as file:
            for name in "txyp":
                file[f"events/{name}"] = events[name]
    assert read_events(path).events.tolist() == events.tolist()
    with pytest.raises(EventFormatError, match=r"its columns have names, found columns='pyxt', which is for tables"):
        read_events(path, columns="pyxt")


def test_a_stream_is_not_for_recordings_that_have_one(tmp_path):
    path = tmp_path / "a.aedat"
    path.write_bytes(b"#!AER-DAT2.0\r\n# AEChip: DAVIS346\r\n" + np.array([[0, 5], [0, 7]], ">u4").tobytes())
    assert len(read_events(path)) == 2
    with pytest.raises(EventFormatError, match=r"is AEDAT 2\.0, which has one stream, found stream='3'"):
        read_events(path, stream=3)


def test_options_of_other_formats_are_refused(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, EVENTS)
    with pytest.raises(ValueError, match=r"a\.npy: topic='/events' is not for this format, only for \.mcap"):
        read_events(path, topic="/events")


def test_single_events_far_from_their_neighbours_do_not_spoil_a_recording(tmp_path):
    path = tmp_path / "a.npy"
    events = random_events(3000, step=100)
    early = events.copy()
    early["t"][1700] -= 99_000
    np.save(path, early)
    with pytest.warns(UserWarning, match="late events, lifted to the time before them: 1"):
        stream = read_events(path)
    assert stream.events["t"][1700] == events["t"][1699]
    ahead = events.copy()
    ahead["t"][1700] += 10_000_000
    np.save(path, ahead)
    with pytest.warns(UserWarning, match="events far ahead of their neighbours, left out: 1"):
        assert_reads(path, np.delete(events, 1700))
    ahead["t"][1700:1710] = ahead["t"][1700]
    np.save(path, ahead)
    with pytest.raises(EventFormatError, match="events must be in time order"):
        read_events(path)
