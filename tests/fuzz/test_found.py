# SPDX-License-Identifier: Apache-2.0
"""What fuzzing has found, each in its smallest form."""

from __future__ import annotations

import bz2
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
import torch
from rosbags.rosbag2 import CompressionMode

from aegnn_core.events import EventFormatError, EventStream, check_events, make_events, read_events, rosbag
from aegnn_core.nn.checkpoint import DESCRIPTION, load_model
from aegnn_core.training.runs.export import read_checkpoint
from aegnn_core.training.settings import TrainSettings
from tests.events.foreign_formats import aedat4, caer, write_packets

EVENTS = make_events(np.arange(100) * 50, np.arange(100), np.arange(100) % 64, np.arange(100) % 2)


def test_a_packet_of_more_bytes_than_a_file_can_have_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat"
    special = struct.pack("<2h6i", 0, 1, 2**31 - 1, 4, 0, 1, 2**31 - 1, 1)
    path.write_bytes(caer((1, 0, EVENTS)) + special + bytes(8))
    with pytest.warns(UserWarning, match="bytes of partial words: 8"):
        assert read_events(path).events.tolist() == EVENTS.tolist()


def test_a_time_that_no_event_can_have_is_refused_by_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat4"
    content = aedat4(EVENTS, width=128, height=128)
    first, last = (struct.pack("<qhh", *EVENTS[number].tolist()[:3]) for number in (5, 6))
    path.write_bytes(content.replace(first, b"\xff" * 8 + first[8:]).replace(last, b"\xff" * 7 + b"\x80" + last[8:]))
    with pytest.raises(EventFormatError, match=r"a\.aedat4: "):
        read_events(path)


def test_a_message_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = write_packets(tmp_path / "bag", [EventStream(EVENTS, 128, 64)], compression=CompressionMode.MESSAGE)
    (bag / "metadata.yaml").unlink()  # which would have rosbags unpack the messages
    assert len(read_events(bag)) == len(EVENTS)
    monkeypatch.setattr(rosbag, "_SMALL_BYTES", 10)
    monkeypatch.setattr(rosbag, "_LARGEST_RATIO", 1)
    with pytest.raises(EventFormatError, match=r"bag.*: a message unpacks to more than"):
        read_events(bag)


@pytest.mark.parametrize("state", [{"state_dict": [1], DESCRIPTION: {}}, {"state_dict": {1: 2}, DESCRIPTION: {}}, [1]])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")  # of one that is none
def test_a_checkpoint_without_named_weights_is_refused(tmp_path: Path, state: Any) -> None:
    path = tmp_path / "a.ckpt"
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"a\.ckpt does not describe a model"):
        read_checkpoint(path)
    content = bytearray(path.read_bytes())
    place = content.index(b"data.pkl")
    for at in range(place + 8, place + 60):
        path.write_bytes(content[:at] + b"\x93" + content[at + 1 :])
        with pytest.raises(ValueError, match=r"a\.ckpt"):
            read_checkpoint(path)


def test_a_long_name_of_no_model_does_not_fill_the_screen() -> None:
    with pytest.raises(ValueError, match="unknown model") as caught:
        load_model("a" * 5_000)
    assert len(str(caught.value)) < 1_000


def test_an_archive_by_the_name_of_an_array_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        np.savez(file, events=EVENTS)
    with pytest.raises(EventFormatError, match=r"a\.npy: is an archive of arrays, expected one array; rename"):
        read_events(path)


def test_the_only_array_of_an_archive_may_have_no_name(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **{"": EVENTS})
    assert read_events(path).events.tolist() == EVENTS.tolist()


@pytest.mark.parametrize("suffix", [".raw", ".npy"])
def test_a_sensor_that_is_too_large_for_any_pixel_is_refused_by_the_name_of_the_file(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"% evt 3.0\n% end\n")
    with pytest.raises(ValueError, match=rf"a\{suffix}: the width asked for is 65537 px, expected 1 to 65536"):
        read_events(path, width=65_537)


def test_a_value_without_end_does_not_fill_the_screen() -> None:
    values = {"network": "graph_grid", "task": "recognition", "dataset": "ncars"}
    for wrong in ({"seed": "x" * 5_000}, {"sensor": "x" * 5_000}, {"graph": {"radius": [1] * 5_000}}):
        with pytest.raises(ValueError, match=r"setting|graph") as caught:
            TrainSettings.from_dict({**values, **wrong})
        assert len(str(caught.value)) < 1_000


def test_a_text_that_states_a_sensor_of_too_many_pixels_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"{'9' * 30} 128\n" + "0.1 1 2 1\n0.2 3 4 0\n")
    with pytest.raises(EventFormatError, match=r"a\.txt: sensor size is 9+ x 128 px, expected 1 to 65536 each"):
        read_events(path)
    assert check_events(EVENTS, width=10**30) is EVENTS


def test_what_a_library_says_of_a_file_does_not_fill_the_screen(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, event_data=EVENTS)
    content = path.read_bytes()
    path.write_bytes(content[:26] + b"\xff\x0f" + content[28:])  # a name of 4095 bytes
    with pytest.raises(EventFormatError, match=r"a\.npz: File name in directory") as caught:
        read_events(path)
    assert len(str(caught.value)) < 1_000


def test_an_npz_of_other_files_than_arrays_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, events=EVENTS, width=128)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("height", b"128")
    with pytest.raises(EventFormatError, match=r"a\.npz: what it holds as 'height' is no array of NumPy"):
        read_events(path)


def test_a_long_line_of_a_header_does_not_become_a_long_message(tmp_path: Path) -> None:
    for name, line in (("a.aedat", b"#!AER-DAT2.0\r\n# AEChip: "), ("a.raw", b"% evt 3.0\n% geometry ")):
        path = tmp_path / name
        path.write_bytes(line + b"[" * 5000 + b"\r\n" + bytes(16))
        with pytest.raises(EventFormatError, match=name) as refused:
            read_events(path)
        assert len(str(refused.value)) < 500


@pytest.mark.parametrize(("size", "before"), [(0, 0), (2**64 - 1, 0), (0, 1024)])
def test_a_text_in_an_hdf5_file_that_has_no_length_is_refused(tmp_path: Path, size: int, before: int) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", userblock_size=before) as file:
        file["events"] = EVENTS
        file.attrs["geometry"] = "128x64"
    assert (read_events(path).width, read_events(path).height) == (128, 64)
    content = bytearray(path.read_bytes())
    first = content.index(b"GCOL") + 16
    rest = first + 16 + 8  # behind the header and the one text, filled up to eight bytes
    assert content[rest : rest + 2] == b"\0\0"
    content[rest + 8 : rest + 16] = size.to_bytes(8, "little")
    path.write_bytes(content)
    with pytest.raises(EventFormatError, match=r"a\.h5: a text at byte \d+ has \d+ bytes"):
        read_events(path)


def without_parameters(path: Path) -> None:
    """In the file, a filter is its number, the length of its name, flags, and the number of its parameters."""
    content = bytearray(path.read_bytes())
    place = content.index(struct.pack("<H", 32001))
    content[place + 6 : place + 8] = bytes(2)
    path.write_bytes(content)


def without_element_size(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(struct.pack("<5I", 0, 4, 4, 0, 2), struct.pack("<5I", 0, 4, 0, 0, 2)))


def without_end(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["events/x"].id.write_direct_chunk((50,), bz2.compress(bytes(200))[:-4])


@pytest.mark.parametrize(
    ("packing", "damage", "message"),
    [
        (hdf5plugin.Blosc(), without_parameters, r"the HDF5 library crashes on it or never returns \(SIGSEGV\)"),
        (hdf5plugin.Bitshuffle(), without_element_size, r"the HDF5 library crashes on it or never returns \(SIGFPE\)"),
        (hdf5plugin.BZip2(), without_end, "/events/x, chunk 1 is packed without an end"),
    ],
)
def test_what_a_filter_of_hdf5_would_crash_on_is_refused(
    tmp_path: Path, packing: Any, damage: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name in "txyp":
            column = np.resize(EVENTS[name], 20_000).astype(np.int32)
            file.create_dataset(f"events/{name}", data=column, chunks=(50,), compression=packing)
    damage(path)
    with pytest.raises(EventFormatError, match=rf"a\.h5: .*{message}"):
        read_events(path)


def test_a_header_that_is_longer_than_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\2\0" + struct.pack("<I", 2**32 - 1) + bytes(100))
    with pytest.raises(EventFormatError, match=r"a\.npy: states a header of 4294967295 bytes in a file of 112"):
        read_events(path)
