# SPDX-License-Identifier: Apache-2.0
"""A file is written whole or not at all, and what cannot be written is said before the work."""

import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from aegnn_core.events import EventStream, make_events, read_events
from aegnn_core.events.files.writing import WRITERS, write_events
from aegnn_core.whole_files import check_writable, new_file, whole_file


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file can have more than 1000 bytes."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("full_disk")
def test_where_the_disk_is_full_the_file_before_stays_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "model.safetensors"
    with whole_file(path) as file:
        file.write(b"first")
    with (
        pytest.raises(OSError, match=r"model\.safetensors: cannot be written: File too large"),
        whole_file(path) as file,
    ):
        file.write(bytes(5000))
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupted_file_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"first")

    def write() -> None:
        with whole_file(path) as file:
            file.write(b"second")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_takes_nothings_place(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"first")
    with pytest.raises(FileExistsError, match="a: exists already, expected the name of a new file"), new_file(path):
        pass
    assert path.read_bytes() == b"first"


@pytest.mark.parametrize("ending", WRITERS)
def test_a_recording_is_there_once_it_is_whole(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed while it writes leaves nothing that looks like a recording."""
    path, write = tmp_path / f"recording{ending}", WRITERS[ending]
    stream = EventStream(make_events([1, 2, 3], [0, 1, 2], [0, 1, 0], [1, 0, 1]), 3, 2)
    there: list[bool] = []

    def watched(file: BinaryIO, stream: EventStream) -> None:
        write(file, stream)
        there.append(path.exists())

    monkeypatch.setitem(WRITERS, ending, watched)
    write_events(path, stream)
    assert there == [False]
    assert list(tmp_path.iterdir()) == [path]
    assert (read_events(path).events == stream.events).all()


def test_a_place_that_nothing_can_be_written_to_is_found_out_before(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "a", Path("/proc/nowhere/a")):
        with pytest.raises(OSError, match=f"{place}: cannot be written: .*; expected a folder that can be made"):
            check_writable(place)
    with pytest.raises(OSError, match="is a folder, expected the name of a file"):
        check_writable(tmp_path)
    check_writable(tmp_path / "new" / "a")
    assert list((tmp_path / "new").iterdir()) == []
