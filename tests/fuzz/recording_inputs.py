# SPDX-License-Identifier: Apache-2.0
"""Recordings of every format, damaged: bytes, lengths, names, and what is no file at all."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from rosbags.rosbag2 import CompressionMode

from aegnn_core.events import (
    EVENT_DTYPE,
    EventStream,
    check_events,
    encode_evt3,
    make_events,
    read_events,
    write_event_bag,
)
from aegnn_core.events.event_array_topics import EVENT_ARRAY_TYPES
from aegnn_core.events.files import READERS
from aegnn_core.events.files.bag import read_bag_sensor
from aegnn_core.events.files.bag_clock import read_bag_clock
from aegnn_core.events.label_topics import LABEL_DTYPE, LABEL_TOPIC, Label
from aegnn_core.events.rosbag import read_class_names, read_detections, read_labels, topic_types
from tests.events.foreign_formats import (
    aedat4,
    aer40,
    caer,
    dat_words,
    evt2_words,
    evt4,
    evt21,
    jaer,
    write_arrays,
    write_dsec,
    write_packets,
)
from tests.fuzz.mutations import mutated
from tests.fuzz.outcomes import require

__all__ = ["Recordings"]

#: The content of a file, or of the files in a folder.
Content = bytes | dict[str, bytes]

_BAG_READERS: list[Callable[[Path], Any]] = [
    read_bag_sensor, read_bag_clock, read_labels, partial(read_detections, topic=LABEL_TOPIC), read_class_names,
    topic_types,
]  # fmt: skip
_FILES = 50
#: What a recording may hold at most here: more is more than a mutated small file can be meant to hold.
_SPARSE_BYTES = 10 << 30


class Recordings:
    """Damaged files into :func:`read_events`: a stream of events, or a refusal that names the file."""

    name = "files"
    named = r"fuzzed"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._good = [(name, content) for name, content in _seeds(folder)]
        for name, content in self._good:
            path = self._write(name, content)
            stream = read_events(path)
            require(len(stream) > 1, f"{name} holds {stream}")

    def attempts(self, rng: np.random.Generator) -> Iterator[Callable[[], None]]:
        """Some damaged files, and one that is no file."""
        for _ in range(_FILES):
            name, content = self._good[rng.integers(len(self._good))]
            if isinstance(content, bytes):
                content = _damaged(content, name, rng, self._good)
            else:
                part = list(content)[rng.integers(len(content))]
                content = {**content, part: _damaged(content[part], part, rng, self._good)}
            if rng.random() < 0.03:
                name = f"fuzzed{list(READERS)[rng.integers(len(READERS))]}"
            yield partial(self._read, name, content, rng)
        if rng.random() < 0.1:
            yield partial(self._read_special, rng)

    def _write(self, name: str, content: Content) -> Path:
        path = self._folder / name
        if path.is_dir() and not path.is_symlink():
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.mkdir()
            for part, data in content.items():
                (path / part).write_bytes(data)
        return path

    def _read(self, name: str, content: Content, rng: np.random.Generator) -> None:
        path = self._write(name, content)
        _read(path, rng)

    def _read_special(self, rng: np.random.Generator) -> None:
        """A pipe, a device, a socket, a folder, a hole of gigabytes, or a link to nothing."""
        suffix = [*READERS, ""][rng.integers(len(READERS) + 1)]
        path = self._folder / f"fuzzed-special{suffix}"
        kind = rng.integers(7)
        inside = suffix == ""
        if inside:
            path.mkdir()
            path, outside = path / ["events.txt", "metadata.yaml", "a.db3", "a.mcap"][rng.integers(4)], path
        try:
            if kind == 0:
                os.mkfifo(path)
            elif kind == 1:
                path.symlink_to("/dev/zero")
            elif kind == 2:
                with socket.socket(socket.AF_UNIX) as listener:
                    listener.bind(str(path))
            elif kind == 3:
                path.mkdir()
            elif kind == 4:
                path.touch()
                os.truncate(path, _SPARSE_BYTES)
            elif kind == 5:
                path.symlink_to("nowhere")
            else:
                path.touch()
            _read(outside if inside else path, rng)
        finally:
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
            if inside:
                outside.rmdir()


def _read(path: Path, rng: np.random.Generator) -> None:
    if _is_bag(path) and rng.random() < 0.3:
        _BAG_READERS[rng.integers(len(_BAG_READERS))](path)
        return
    stream = read_events(path, **_options(rng))
    require(len(stream) > 0 and stream.events.dtype == EVENT_DTYPE, f"{path} gives {stream}")
    check_events(stream.events, stream.width, stream.height)


def _is_bag(path: Path) -> bool:
    return path.suffix in (".bag", ".db3", ".mcap") or (path / "metadata.yaml").is_file()


def _options(rng: np.random.Generator) -> dict[str, Any]:
    """What a caller may ask for."""
    choices: list[dict[str, Any]] = [
        {"width": int(2 ** rng.uniform(0, 40))}, {"width": 0}, {"height": int(2 ** rng.uniform(0, 17))},
        {"max_events": int(rng.integers(300))}, {"stream": "1"}, {"stream": "davis/right"}, {"topic": "/events"},
        {"columns": "xytp"}, {"columns": "txyq"}, {"time_unit": "ns"}, {"time_unit": "s"},
    ]  # fmt: skip
    return choices[rng.integers(len(choices))] if rng.random() < 0.1 else {}


def _damaged(content: bytes, name: str, rng: np.random.Generator, good: list[tuple[str, Content]]) -> bytes:
    other = good[rng.integers(len(good))][1]
    return mutated(content, rng, [other] if isinstance(other, bytes) else list(other.values()))


def _seeds(folder: Path) -> Iterator[tuple[str, Content]]:
    """Name and content of a small recording of every kind."""
    rng = np.random.default_rng(0)
    count = 150
    t, x, y = 1_000 + np.cumsum(rng.integers(0, 900, count)), rng.integers(0, 120, count), rng.integers(0, 100, count)
    events = make_events(t, x, y, rng.integers(0, 2, count))
    stream = EventStream(events, 128, 128)
    for header, words in (
        ("% evt 3.0\n% geometry 128x128\n", encode_evt3(events)),
        ("% format EVT2;width=640;height=480\n% end\n", evt2_words(events)),
        ("% format EVT21;height=320;width=320\n% end\n", evt21(events, False)),
        ("% evt 2.1\n% geometry 320x320\n% system_ID 49\n", evt21(events, True)),
        ("% format EVT4;height=320;width=320\n% end\n", evt4(events)),
    ):
        yield "fuzzed.raw", header.encode() + words
    yield "fuzzed.dat", b"% Data file\n% Version 2\n% Height 128\n% Width 128\n\x00\x08" + dat_words(events)
    yield "fuzzed.bin", aer40(events)
    chip = "# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C\r\n#End Of ASCII Header\r\n"
    yield "fuzzed.aedat", jaer(events, "", lambda x, y, p: y << 8 | (127 - x) << 1 | (1 - p))
    yield "fuzzed.aedat", jaer(events, chip, lambda x, y, p: y << 22 | (239 - x) << 12 | p << 11)
    yield "fuzzed.aedat", caer((1, 0, events))
    yield "fuzzed.aedat4", aedat4(events, width=128, height=128)
    yield from _tables(events)
    yield from _hdf5(folder, events)
    yield from _bags(folder, stream)


def _tables(events: np.ndarray) -> Iterator[tuple[str, Content]]:
    columns = {name: events[name] for name in "txyp"}
    rows = np.stack(list(columns.values()), 1)
    for array in (events, rows, rows.astype(float)):
        file = io.BytesIO()
        np.save(file, array)
        yield "fuzzed.npy", file.getvalue()
    for arrays, save in (
        ({"event_data": events}, np.savez),
        ({**columns, "width": np.array(128), "height": np.array(128)}, np.savez_compressed),
    ):
        file = io.BytesIO()
        save(file, **arrays)  # type: ignore[operator]
        yield "fuzzed.npz", file.getvalue()
    text = "\n".join(" ".join(map(str, row)) for row in rows.tolist())
    yield "fuzzed.txt", f"128 128\n{text}\n".encode()
    yield "fuzzed.csv", b"t,x,y,p\n" + text.replace(" ", ",").encode()
    yield "fuzzed", {"events.txt": "\n".join(f"{x} {y} {t / 1e6:.6f} {p}" for t, x, y, p in rows.tolist()).encode()}


def _hdf5(folder: Path, events: np.ndarray) -> Iterator[tuple[str, Content]]:
    path = folder / "fuzzed.h5"
    write_dsec(path, events, t_offset=1_000)
    yield path.name, path.read_bytes()
    table = np.empty(len(events), [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    for name in "xypt":
        table[name] = events[name]
    for options in ({**hdf5plugin.Zstd()}, {"compression": "gzip", "chunks": (32,)}, {}):
        with h5py.File(path, "w") as file:
            file.create_dataset("CD/events", data=table, **options)
            file.attrs["geometry"] = "128x128"
        yield path.name, path.read_bytes()


def _bags(folder: Path, stream: EventStream) -> Iterator[tuple[str, Content]]:
    for storage, suffix in (("sqlite3", ".db3"), ("mcap", ".mcap")):
        bag = folder / f"bag{suffix[1:]}"
        labels = [Label(5_000_000, boxes=np.array([(1, 2, 30, 20, 1), (0, 0, 5, 7, 0)], LABEL_DTYPE))]
        write_event_bag(bag, stream, storage=storage, labels=labels, class_names=("a", "b"))  # type: ignore[arg-type]
        (file,) = bag.glob(f"*{suffix}")
        yield f"fuzzed{suffix}", file.read_bytes()
        yield "fuzzed", {part.name: part.read_bytes() for part in bag.iterdir()}
    packed = write_packets(folder / "packed", [stream], compression=CompressionMode.FILE)
    yield "fuzzed", {part.name: part.read_bytes() for part in packed.iterdir()}
    yield "fuzzed.bag", write_packets(folder / "packets.bag", [stream]).read_bytes()
    rows = [(1_600_000_000, 1_000 * int(t), int(x), int(y), int(p)) for t, x, y, p in stream.events.tolist()]
    for kind in EVENT_ARRAY_TYPES:
        package = kind.split("/")[0]
        yield "fuzzed.bag", write_arrays(folder / f"{package}.bag", kind, [rows[:50], rows[50:]]).read_bytes()
        arrays = write_arrays(folder / package, kind, [rows])
        yield "fuzzed", {part.name: part.read_bytes() for part in arrays.iterdir()}
