# SPDX-License-Identifier: Apache-2.0
"""Recordings: every format from bytes made here, every kind of bad input, and the real samples element by element."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import aedat
import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegnn_core.events import (
    EVENT_DTYPE,
    EventFormatError,
    EventStream,
    check_events,
    encode_evt3,
    make_events,
    read_events,
    write_event_bag,
)
from aegnn_core.events.files import READERS
from tests.events.foreign_formats import aedat4, aer40, dat_words, evt2_words, write_dsec

THREE = make_events([5, 70, 70], [1, 639, 2], [3, 4, 479], [1, 0, 1])
#: Further apart than what may come late.
FAR = make_events([5, 700_000, 800_000], [1, 639, 2], [3, 4, 479], [1, 0, 1])


def rows(stream):
    return stream.events.tolist()


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# --- .raw -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "words", "size"),
    [
        ("% evt 3.0\n% geometry 700x500\n", encode_evt3(THREE), (700, 500)),
        ("% format EVT3;height=720;width=1280\n% end\n", encode_evt3(THREE), (1280, 720)),
        ("% Format EVT3\n% end\n", encode_evt3(THREE), (640, 480)),
        ("% evt 3.0\n% plugin_name hal_plugin_gen41_evk3\n", encode_evt3(THREE), (1280, 720)),
        ("% evt 3.0\n% sensor_name IMX636\n", encode_evt3(THREE), (1280, 720)),
        ("% evt 2.0\n% plugin_name hal_plugin_gen3_fx3\r\n", evt2_words(THREE), (640, 480)),
        ("% format EVT2;width=640;height=480\n% end\n", evt2_words(THREE), (640, 480)),
        ("%\n% a comment\n% evt 2.0\n", evt2_words(THREE), (640, 480)),
    ],
)
def test_raw_headers_state_format_and_sensor(tmp_path, header, words, size):
    path = tmp_path / "a.raw"
    path.write_bytes(header.encode() + words)
    stream = read_events(path)
    assert rows(stream) == THREE.tolist()
    assert (stream.width, stream.height) == size


def test_raw_words_that_begin_like_a_header_line_are_words(tmp_path):
    words = np.array([0x0A25, 0x8000, 0x6005, 0x0003, 0x2801], "<u2").tobytes()
    assert words.startswith(b"%\n")
    path = tmp_path / "a.raw"
    path.write_bytes(b"% evt 3.0\n% end\n" + words)
    assert rows(read_events(path)) == [(5, 1, 3, 1)]


def test_raw_flaws_are_left_out_and_reported_once(tmp_path):
    path = tmp_path / "a.raw"
    unknown_word = b"\0\x10"
    path.write_bytes(b"% evt 3.0\n% geometry 639x480\n" + unknown_word + encode_evt3(THREE) + b"\1")
    expected = r"a\.raw: unknown words: 1, events outside the sensor: 1, bytes of partial words: 1"
    with pytest.warns(UserWarning, match=expected) as caught:
        stream = read_events(path)
    assert rows(stream) == [THREE.tolist()[0], THREE.tolist()[2]]
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_raw_events_a_little_late_are_moved_into_order(tmp_path):
    path = tmp_path / "a.raw"
    words = [0x8005, 0x6000, 0x0001, 0x2001, 0x8004, 0x2002]
    path.write_bytes(b"% evt 3.0\n% end\n" + np.array(words, "<u2").tobytes())
    with pytest.warns(UserWarning, match="late events, lifted to the time before them: 1"):
        stream = read_events(path)
    assert rows(stream) == [(5 << 12, 1, 1, 0), (5 << 12, 2, 1, 0)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with nothing, expected header lines"),
        (b"\x89PNG\r\n\x1a\n and so on", "begins with b'.*PNG.*expected header lines"),
        (b"% evt 3.0\n% geometry 640x4", "ends inside its header, at b'% geometry 640x4'"),
        (b"% evt 3.0\n", "ends after its header, expected EVT3 words"),
        (b"% evt 3.0\n% end\n\0", "holds no events, found bytes of partial words: 1"),
        (b"% evt 3.0\n% end\n" + encode_evt3(THREE)[:6], "holds no events, found nothing"),
        (b"% evt 5.0\n% end\n" + encode_evt3(THREE), "event format is EVT5.0, expected EVT2, EVT2.1, EVT3 or EVT4"),
        (b"% format HISTO3D;width=640;height=480\n% end\n", "event format is HISTO3D, expected EVT2, EVT2.1"),
        (b"% date today\n% end\n" + encode_evt3(THREE), "no line 'evt' or 'format'"),
        (
            b"% evt 3.0\n% geometry wide\n% end\n" + encode_evt3(THREE),
            "geometry is 'wide', expected a size such as 640x480",
        ),
        (b"% evt 3.0\n% geometry 0x480\n% end\n" + encode_evt3(THREE), "sensor size is 0 x 480 px"),
    ],
)
def test_bad_raw_files_say_what_is_wrong(tmp_path, content, message):
    path = tmp_path / "a.raw"
    path.write_bytes(content)
    with pytest.raises(EventFormatError, match=r"a\.raw: .*" + message):
        read_events(path)


# --- .dat and .bin ----------------------------------------------------------------------------------------------------


def test_dat(tmp_path):
    path = tmp_path / "a_td.dat"
    path.write_bytes(b"% Data file\n% Version 2\n\x00\x08" + dat_words(THREE))
    stream = read_events(path)
    assert rows(stream) == THREE.tolist()
    assert (stream.width, stream.height) == (640, 480)
    path.write_bytes(b"% Version 2\n% Height 720\n% Width 1280\n\x0c\x08" + dat_words(THREE))
    assert (read_events(path).width, read_events(path).height) == (1280, 720)


@pytest.mark.parametrize("damaged", [[5], [5, 6, 7]])
@pytest.mark.parametrize("start", [0, (1 << 32) - 1_500_000])
def test_a_damaged_time_is_no_wrap_of_the_counter(tmp_path, damaged, start):
    """Whether the counter wraps or not, in its midst."""
    times = start + np.arange(3000, dtype=np.int64) * 1000
    events = make_events(times, times % 100, times % 90, times % 2)
    words = events.copy()
    words["t"] %= 1 << 32
    words["t"][damaged] = (words["t"][damaged] + (1 << 31) + 10**9) % (1 << 32)
    (tmp_path / "a.dat").write_bytes(b"% Version 2\n\x00\x08" + dat_words(words))
    with pytest.warns(UserWarning, match=r"far ahead of their neighbours|late events"):
        found = read_events(tmp_path / "a.dat").events
    kept = found[np.isin(found["t"], events["t"])]
    assert len(kept) >= 3000 - 2 * len(damaged)
    assert int(found["t"][-1]) - int(found["t"][1]) <= 3_000_000


@pytest.mark.parametrize("damaged", [[0], [0, 1], [0, 2]])
@pytest.mark.parametrize("high", [(1 << 31) + 10**9, (1 << 32) - 5_000_000])
def test_damaged_times_at_the_beginning_are_no_wrap_of_the_counter(tmp_path, damaged, high):
    """Nothing is before them that they could be ahead of; all others keep their times."""
    times = 1000 * np.arange(3000, dtype=np.int64)
    events = make_events(times, times % 100, times % 90, times % 2)
    words = events.copy()
    words["t"][damaged] += high
    (tmp_path / "a.dat").write_bytes(b"% Version 2\n\x00\x08" + dat_words(words))
    with pytest.warns(UserWarning, match=f"far ahead of their neighbours, left out: {len(damaged)}"):
        found = read_events(tmp_path / "a.dat").events
    assert np.array_equal(found, np.delete(events, damaged))


@pytest.mark.parametrize("before", [1, 5])
def test_a_counter_that_starts_again_among_the_first_events_goes_on(tmp_path, before):
    times = (1 << 32) - 100_000 * before + 100_000 * np.arange(3000, dtype=np.int64)
    events = make_events(times, times % 100, times % 90, times % 2)
    words = events.copy()
    words["t"] %= 1 << 32
    (tmp_path / "a.dat").write_bytes(b"% Version 2\n\x00\x08" + dat_words(words))
    assert np.array_equal(read_events(tmp_path / "a.dat").events, events)


def test_dat_flaws_are_left_out_and_reported(tmp_path):
    path = tmp_path / "a.dat"
    path.write_bytes(b"% Height 479\n% Width 640\n\x00\x08" + dat_words(THREE) + b"1234567")
    with pytest.warns(UserWarning, match="events outside the sensor: 1, bytes of partial words: 7"):
        assert rows(read_events(path)) == THREE.tolist()[:2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no header", "begins with b'no header'"),
        (b"% Version 2\n\x00", "ends after its header, expected two bytes"),
        (b"% Version 2\n\x0e\x08" + dat_words(THREE), "event type 14 of 8 bytes, expected type 0 or 12 of 8 bytes"),
        (b"% Version 2\n\x00\x10", "event type 0 of 16 bytes"),
        (b"% Version 2\n\x00\x08", "holds no events, found nothing"),
        (b"% Version 2\n\x00\x08" + dat_words(THREE[[0]]) + b"\0" * 3, None),
        (b"% Version 2\n\x00\x08\xff\xff\xff\x00\0\0\0\0" + dat_words(THREE), "time order: event 1 at 5 µs"),
    ],
)
def test_bad_dat_files_say_what_is_wrong(tmp_path, content, message):
    path = tmp_path / "a.dat"
    path.write_bytes(content)
    if message is None:
        with pytest.warns(UserWarning, match="bytes of partial words: 3"):
            read_events(path)
    else:
        with pytest.raises(EventFormatError, match=r"a\.dat: .*" + message):
            read_events(path)


SMALL = make_events([7, 2**20 + 300, 2**23 - 1], [0, 33, 5], [33, 1, 0], [1, 0, 1])


def test_aer40(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(aer40(SMALL))
    stream = read_events(path)
    assert rows(stream) == SMALL.tolist()
    assert (stream.width, stream.height) == (34, 34)
    assert (read_events(path, width=240, height=180).width, read_events(path, width=240).height) == (240, 34)
    with pytest.warns(UserWarning, match="events outside the sensor: 1"):
        assert rows(read_events(path, width=33)) == [SMALL.tolist()[0], SMALL.tolist()[2]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no events, found nothing"),
        (b"abcd", "holds no events, found bytes of partial words: 4"),
        (aer40(SMALL[::-1]), "time order: event 1 at 1048876 µs comes after an event at 8388607 µs"),
        (b"RIFF, a file of another kind altogether", "time order"),
    ],
)
def test_bad_aer40_files_say_what_is_wrong(tmp_path, content, message):
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    with pytest.raises(EventFormatError, match=r"a\.bin: .*" + message):
        read_events(path)


# --- AEDAT4 -----------------------------------------------------------------------------------------------------------


def test_aedat4(tmp_path):
    path = tmp_path / "a.aedat4"
    path.write_bytes(aedat4(THREE, width=800, height=600))
    stream = read_events(path)
    assert rows(stream) == THREE.tolist()
    assert (stream.width, stream.height) == (800, 600)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with b'', expected b'#!AER-DAT4.0"),
        (b"of another kind altogether", "begins with b'of another kin', expected b'#!AER-DAT4.0"),
        (aedat4(THREE)[:40], "states a header of 326 bytes, out of range in a file of 40"),
        (aedat4(THREE).replace(b'type="int"', b'type="\xe5\xff"'), "not well-formed .* in the header"),
        (
            aedat4(THREE).replace(b"\x18\0\0\0IOHE", b"\xff\xff\xff\x0fIOHE"),
            "out of range.*expected a complete AEDAT4 recording",
        ),
        (aedat4(THREE)[:-1], "holds no events"),
        (aedat4(), "no stream found in the description, expected a complete AEDAT4 recording"),
        (
            aedat4(THREE, THREE),
            r"holds the event streams 0 \(640 x 480 px\), 1 .* choice of one with stream=",
        ),
        (aedat4(THREE[:0]), "holds no events"),
        (aedat4(FAR[::-1]), "events must be in time order"),
        (aedat4(THREE, width=600), "x must be below the sensor's 600 px, found 639"),
    ],
)
def test_bad_aedat4_files_say_what_is_wrong(tmp_path, content, message):
    path = tmp_path / "a.aedat4"
    path.write_bytes(content)
    with pytest.raises(EventFormatError, match=r"a\.aedat4: .*" + message):
        read_events(path)


# --- HDF5 -------------------------------------------------------------------------------------------------------------


def test_prophesee_hdf5(tmp_path):
    path = tmp_path / "a.hdf5"
    table = np.empty(3, [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    for name in "xypt":
        table[name] = THREE[name]
    with h5py.File(path, "w") as file:
        file.create_dataset("CD/events", data=table, **hdf5plugin.Zstd())
        file.attrs["geometry"] = "1280x720"
    stream = read_events(path)
    assert rows(stream) == THREE.tolist()
    assert (stream.width, stream.height) == (1280, 720)


def test_dsec_hdf5_adds_the_time_offset(tmp_path):
    path = tmp_path / "events.h5"
    write_dsec(path, THREE, t_offset=50_000_000_000)
    stream = read_events(path)
    assert (stream.events["t"] - THREE["t"]).tolist() == [50_000_000_000] * 3
    assert (stream.width, stream.height) == (640, 480)
    write_dsec(path, THREE, width=800, height=600)
    stream = read_events(path)
    assert rows(stream) == THREE.tolist()
    assert (stream.width, stream.height) == (800, 600)


def test_bad_hdf5_files_say_what_is_wrong(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"not at all")
    with pytest.raises(EventFormatError, match=r"a\.h5: .*expected a complete HDF5 file"):
        read_events(path)
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros(3)
    with pytest.raises(EventFormatError, match=r"a\.h5: holds \['images'\], expected events at CD/events, events, "):
        read_events(path)
    with h5py.File(path, "w") as file:
        file["CD/events"] = np.zeros(3)
    with pytest.raises(EventFormatError, match=r"array of float64 \(3,\), expected fields t, x, y, p"):
        read_events(path)
    write_dsec(path, FAR[::-1])
    with pytest.raises(EventFormatError, match=r"a\.h5: events must be in time order"):
        read_events(path)
    write_dsec(path, THREE[:0])
    with pytest.raises(EventFormatError, match=r"a\.h5: holds no events"):
        read_events(path)
    write_dsec(path, THREE)
    with pytest.raises(EventFormatError, match=r"a\.h5: x must be below the sensor's 600 px, found 639"):
        read_events(path, width=600)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(EventFormatError, match=r"a\.h5: .*expected a complete HDF5 file"):
        read_events(path)


# --- NumPy ------------------------------------------------------------------------------------------------------------


def test_npy_structured_or_columns(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, THREE)
    assert rows(read_events(path)) == THREE.tolist()
    np.save(path, np.array(THREE.tolist(), np.int64))
    stream = read_events(path)
    assert rows(stream) == THREE.tolist()
    assert stream.events.dtype == EVENT_DTYPE
    signed = np.array(THREE.tolist(), np.int64)
    signed[:, 3] = [1, -1, 1]
    np.save(path, signed)
    assert rows(read_events(path)) == THREE.tolist()


def test_npz_columns_or_events(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **{name: THREE[name] for name in "txyp"})
    assert rows(read_events(path)) == THREE.tolist()
    np.savez_compressed(path, events=THREE, width=700, height=500)
    stream = read_events(path)
    assert rows(stream) == THREE.tolist()
    assert (stream.width, stream.height) == (700, 500)


INTEGERS = np.array(THREE.tolist(), np.int64)


def changed(row, column, value):
    table = INTEGERS.copy()
    table[row, column] = value
    return table


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (INTEGERS[:0], "holds no events"),
        (INTEGERS[:, :3], r"array of int64 \(3, 3\), expected fields t, x, y, p or numbers \[N, 4\]"),
        (np.zeros(5, [("t", int), ("x", int)]), "expected fields t, x, y, p"),
        (changed(1, 1, -1), "column x spans -1 to 2, expected 0 to 65535"),
        (changed(1, 2, 1 << 16), "column y spans 3 to 65536"),
        (changed(1, 3, 7), r"column p has the values \[1, 7\]"),
    ],
)
def test_bad_arrays_say_what_is_wrong(tmp_path, array, message):
    path = tmp_path / "a.npy"
    np.save(path, array)
    with pytest.raises(EventFormatError, match=r"a\.npy: .*" + message):
        read_events(path)


def test_bad_npz_files_say_what_is_wrong(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, a=THREE, b=THREE)
    with pytest.raises(EventFormatError, match=r"a\.npz: holds events as a, b, expected one, or one called events"):
        read_events(path)
    np.savez(path, a=THREE["t"], b=THREE["x"])
    with pytest.raises(
        EventFormatError, match=r"a\.npz: holds the arrays \['a', 'b'\], expected t, x, y and p, or events"
    ):
        read_events(path)
    np.savez(path, **{name: THREE[name][: 3 if name == "t" else 2] for name in "txyp"})
    with pytest.raises(EventFormatError, match="columns have the shapes"):
        read_events(path)
    np.savez(path, events=THREE, width=-2, height=3)
    with pytest.raises(EventFormatError, match="width is -2, expected one positive number"):
        read_events(path)


class Trap:
    """Unpickling it leaves a trace."""

    def __reduce__(self):
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "b.npy"])
def test_numpy_files_are_never_unpickled(tmp_path, name):
    trap = Trap()
    trap.trace = tmp_path / "unpickled"
    path = tmp_path / name
    if name == "b.npy":
        path.write_bytes(pickle.dumps(trap))
    elif name == "a.npy":
        np.save(path, np.array([trap], object))
    else:
        np.savez(path, events=np.array([trap], object))
    with pytest.raises(EventFormatError, match="without pickled objects"):
        read_events(path)
    assert not trap.trace.exists()


# --- text -------------------------------------------------------------------------------------------------------------


def test_ncars_text_folder(tmp_path):
    (tmp_path / "is_car.txt").write_text("1")
    (tmp_path / "events.txt").write_text("1 3 5 1\n639 4 70 0\n2 479 70 1\n")
    assert rows(read_events(tmp_path)) == THREE.tolist()
    (tmp_path / "events.txt").write_text("1 3 0.000005 1\n639 4 0.000070 -1\n2 479 7e-5 1\n")
    assert rows(read_events(tmp_path / "events.txt")) == THREE.tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no events"),
        ("1 2 3\n", "3 numbers a line, expected four"),
        ("1 2 3 1\na b c d\n", "could not convert string"),
        ("1.5 2 3 1\n", "column x has no whole numbers everywhere"),
        ("1 2 3 0.5\n", r"column p has the values \[0\.5\], expected 0 and 1"),
        ("1 2 nan 1\n", "column t is not finite"),
        ("1 2 300000 1\n1 2 2 1\n", "events must be in time order"),
        ("1 2 3 1\n1 2\n", "the number of columns changed"),
    ],
)
def test_bad_text_files_say_what_is_wrong(tmp_path, content, message):
    (tmp_path / "events.txt").write_text(content)
    with pytest.raises(EventFormatError, match=r"events\.txt: .*" + message):
        read_events(tmp_path)


# --- what is none of them ---------------------------------------------------------------------------------------------


def test_paths_that_cannot_be_recordings(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.raw: no such file"):
        read_events(tmp_path / "nowhere.raw")
    with pytest.raises(EventFormatError, match=r"expected a rosbag2 folder or one with events\.txt, found neither"):
        read_events(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(EventFormatError, match=r"a\.jpg: file name ends in '\.jpg', expected one of \.raw, "):
        read_events(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="the width asked for is 0 px"):
        read_events(tmp_path / "a.raw", width=0)


@pytest.mark.parametrize("suffix", READERS)
@given(content=st.binary(max_size=200))
def test_random_bytes_are_read_or_refused_with_their_path(tmp_path_factory, suffix, content):
    path = tmp_path_factory.mktemp("random") / f"a{suffix}"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            stream = read_events(path)
        except EventFormatError as error:
            refusal = str(error)
        else:
            check_events(stream.events, stream.width, stream.height)
            refusal = f"{path}: not refused"
    assert refusal.startswith(f"{path}: ")


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_bags_cut_off_anywhere_are_refused(tmp_path, storage):
    t = np.arange(20_000)
    write_event_bag(
        tmp_path / "bag", EventStream(make_events(t * 50, t % 640, t % 480, t % 2), 640, 480), storage=storage
    )
    (whole,) = (tmp_path / "bag").glob("bag.*")
    refused_when_cut_off(whole, tmp_path / f"a{whole.suffix}")


def test_aedat4_files_cut_off_anywhere_give_what_is_whole(tmp_path):
    packets = [make_events([100 * k + 1, 100 * k + 2], [k, 3], [4, k], [1, 0]) for k in range(5)]
    content, one = aedat4(*packets, one_stream=True), aedat4(packets[0])
    path = tmp_path / "a.aedat4"
    for end in range(len(one), len(content)):
        path.write_bytes(content[:end])
        whole = (end - len(one)) * 4 // (len(content) - len(one))
        expected = np.concatenate(packets[: 1 + whole])
        if (end - len(one)) % ((len(content) - len(one)) // 4):
            with pytest.warns(UserWarning, match=r"a\.aedat4: cut off, \d+ bytes of the last packet are left out"):
                assert rows(read_events(path)) == expected.tolist()
        else:
            assert rows(read_events(path)) == expected.tolist()
    for end in (0, 1, 7, 40, len(one) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(EventFormatError, match=str(path)):
            read_events(path)


def refused_when_cut_off(whole, path):
    content = whole.read_bytes()
    for end in (0, 1, 7, 40, len(content) // 3, len(content) // 2, 4 * len(content) // 5):
        path.write_bytes(content[:end])
        with pytest.raises(EventFormatError, match=str(path)):
            read_events(path)


# --- real recordings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count", "size"), [("evt2", 539_481, (640, 480)), ("evt3", 219_596, (1280, 720))])
def test_real_raw_files_equal_what_independent_decoders_agree_on(shared_data, name, count, size):
    stream = read_events(shared_data / "raw" / f"{name}_sample.raw")
    consensus = np.load(shared_data / "raw" / f"{name}_sample.consensus.npz")
    assert len(stream) == count
    for column in "txyp":
        np.testing.assert_array_equal(stream.events[column], consensus[column])
    assert (stream.width, stream.height) == size


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("raw/ncars_004397_td.dat", 4_407),
        ("raw/davis346.aedat4", 6_676),
        ("raw/ncaltech101_faces_easy_0001.bin", 67_445),
        ("pedro/frame0001566.npy", 17_691),
        ("pedro/frame0013230.npy", 38_416),
        ("pedro/frame0017525.npy", 2_498),
        ("rosbags/evt3_640x480", 343_474),
        ("rosbags/evt3_640x480/test_events_1.db3", 343_474),
        ("rosbags/libcaer_cmp_346x260", 571_266),
        ("rosbags/libcaer_cmp_346x260/test_events_2_0.mcap", 571_266),
        ("rosbags/libcaer_640x480", 334_331),
    ],
)
def test_real_recordings_have_the_known_number_of_events(shared_data, path, count):
    stream = read_events(shared_data / path)
    assert len(stream) == count
    check_events(stream.events, stream.width, stream.height)


def test_real_ncars_and_aedat4_values(shared_data):
    cars = read_events(shared_data / "raw" / "ncars_004397_td.dat", width=120, height=100)
    assert rows(cars)[0] == (0, 6, 18, 1)
    assert np.bincount(cars.events["p"]).tolist() == [2_736, 1_671]
    davis = read_events(shared_data / "raw" / "davis346.aedat4")
    assert (davis.width, davis.height) == (346, 260)
    library = [
        packet["events"] for packet in aedat.Decoder(str(shared_data / "raw" / "davis346.aedat4")) if "events" in packet
    ]
    np.testing.assert_array_equal(davis.events["t"], np.concatenate(library)["t"].astype(np.int64))


def test_real_pedro_columns(shared_data):
    path = shared_data / "pedro" / "frame0001566.npy"
    stream = read_events(path, width=346, height=260)
    np.testing.assert_array_equal(np.array(stream.events.tolist()), np.load(path))


def test_real_nmnist_recordings(shared_data):
    paths = sorted((shared_data / "nmnist" / "validation").glob("*/*.bin"))
    assert len(paths) == 100
    for path in paths:
        stream = read_events(path, width=34, height=34)
        assert len(stream) == path.stat().st_size // 5
        assert 200_000 < stream.duration < 400_000


def test_a_message_has_an_end_however_much_text_a_damaged_header_has(tmp_path: Path) -> None:
    path = tmp_path / "long.aedat"
    path.write_bytes(b"#!AER-DAT3.1\r\n#Format: " + 5_000 * b"[" + b"\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n")
    with pytest.raises(
        EventFormatError, match=r"long\.aedat: is packed as \[+ … \[+, expected RAW or SerializedTS$"
    ) as error:
        read_events(path)
    assert len(str(error.value)) < 1_600
