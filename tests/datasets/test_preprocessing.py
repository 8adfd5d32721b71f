# SPDX-License-Identifier: Apache-2.0
"""Preprocessing goes on where it was stopped, however that was, and says what stops it."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread
from time import monotonic, sleep

import psutil
import pytest

from aegnn_core import GraphConfig
from aegnn_core.cli import main
from aegnn_core.datasets import MissingFilesError, open_dataset
from aegnn_core.datasets.default_graphs import DEFAULT_GRAPHS
from aegnn_core.datasets.preprocessing import preprocess
from aegnn_core.datasets.samples import EventSamples, labelled_graph
from aegnn_core.datasets.stored_graphs import graph_folder, open_graphs
from aegnn_core.events import EventFormatError
from tests.datasets.test_stored_graphs import assert_same
from tests.datasets.tiny_datasets import (
    aer_bytes,
    random_rows,
    write,
    write_gen1,
    write_nmnist,
    write_rosbag_recognition,
)

pytestmark = pytest.mark.timeout(600)

GRAPH = DEFAULT_GRAPHS["recognition"]


def stored_files(root: Path) -> dict[Path, tuple[int, int]]:
    files = root.rglob("*.safetensors")
    return {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


@pytest.fixture
def long_work(tmp_path: Path) -> Path:
    """A data set on which preprocessing works for some time."""
    content = aer_bytes(*random_rows(0, 1500, 300_000, 34, 34))
    for digit in range(10):
        for number in range(60):
            write(tmp_path / f"nmnist/training/{digit}/{number:05d}.bin", content)
    return tmp_path


def start(root: Path, workers: int) -> subprocess.Popen[str]:
    """The command, in a process group of its own as a shell starts it; returns when some graphs are stored."""
    command = [sys.executable, "-m", "aegnn_core.cli", "preprocess", "--dataset", "nmnist", "--split", "training"]
    process = subprocess.Popen(
        [*command, "--num-workers", str(workers)],
        env={**os.environ, "AEGNN_DATA_DIR": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end = monotonic() + 300  # processes start slowly on a machine with other work
    while not stored_files(root):
        assert process.poll() is None, process.communicate()
        assert monotonic() < end
        sleep(0.001)
    return process


def go_on(root: Path) -> None:
    """Run again in this process, which builds only what is missing, and compare with graphs that are built anew."""
    before = stored_files(root)
    assert 0 < len(before) < 600
    dataset = open_dataset("nmnist", "training", task="recognition", root=root)
    assert preprocess(dataset, GRAPH, "recognition").built == 600 - len(before)
    after = stored_files(root)
    assert len(after) == 600
    assert {file: after[file] for file in before} == before
    assert not list(root.rglob("*.part"))
    graphs, fresh = open_graphs(dataset, GRAPH, "recognition"), EventSamples(dataset, GRAPH, "recognition")
    for index in range(0, 600, 31):
        assert_same(graphs[index], labelled_graph(fresh[index], GRAPH))


def test_the_command_stores_once_and_says_what_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AEGNN_DATA_DIR", str(tmp_path))
    for split in ("training", "validation", "test"):
        write_nmnist(tmp_path, split, events=50)
    arguments = ["preprocess", "--dataset", "nmnist", "--num-workers", "0", "--radius", "4"]
    assert main(arguments) == 0
    first = stored_files(tmp_path)
    assert len(first) == 30
    printed = capsys.readouterr().out
    assert printed.count("10 recordings, ") == printed.count("built now 10 of them with 500 events") == 3
    assert main(arguments) == 0
    assert stored_files(tmp_path) == first
    assert capsys.readouterr().out.count("built now 0 of them with 0 events") == 3
    (description,) = (tmp_path / "nmnist" / "processed").glob("nmnist-recognition-*/graph.json")
    found = json.loads(description.read_text())
    assert found["graph"] == {**GRAPH.resolved().to_dict(), "radius": 4.0}
    assert (found["dataset"], found["task"], found["sensor"]) == ("nmnist", "recognition", [34, 34])
    (tmp_path / "nmnist" / "test").rename(tmp_path / "nmnist" / "elsewhere")
    assert main(arguments) == 2
    assert "data set nmnist, split test: " in capsys.readouterr().err
    assert main([*arguments, "--split", "validation", "training"]) == 0


def test_a_run_that_was_killed_goes_on_from_there(long_work: Path) -> None:
    """No other run comes in between as long as it is alive, and its processes end with it."""
    process = start(long_work, 2)
    dataset = open_dataset("nmnist", "training", task="recognition", root=long_work)
    folder = graph_folder(dataset, GRAPH, "recognition")
    with pytest.raises(ValueError, match=rf"{folder}: another run is storing graphs there, wait until it has ended"):
        preprocess(dataset, GRAPH, "recognition")
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    assert len(workers) >= 2
    assert psutil.wait_procs(workers, timeout=120)[1] == []
    (folder / "training" / "00000-0.safetensors.host.1.part").write_bytes(b"half a file")
    go_on(long_work)


def test_an_interrupted_run_says_how_to_go_on(long_work: Path) -> None:
    process = start(long_work, 1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out.strip()) == (130, "")
    assert err == "aegnn: interrupted; what is stored stays, the same command goes on from there\n"
    go_on(long_work)


def test_a_process_that_is_lost_is_said(long_work: Path) -> None:
    """As when the system ends it for lack of memory."""

    def end_one() -> None:
        while not stored_files(long_work):
            sleep(0.001)
        max(psutil.Process().children(recursive=True), key=lambda child: child.create_time()).kill()

    ending = Thread(target=end_one)
    ending.start()
    dataset = open_dataset("nmnist", "training", task="recognition", root=long_work)
    with pytest.raises(ChildProcessError, match="a process that built graphs was killed, perhaps for lack of memory"):
        preprocess(dataset, GRAPH, "recognition", workers=1)
    ending.join()
    go_on(long_work)


def test_a_full_disk_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here the system lets the process write no file larger than 20 kB."""
    monkeypatch.setenv("AEGNN_DATA_DIR", str(tmp_path))
    write_nmnist(tmp_path, events=2000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        status = main(["preprocess", "--dataset", "nmnist", "--split", "training", "--num-workers", "0"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capsys.readouterr().err
    assert (status, error.count("\n")) == (2, 1)
    assert error.startswith(f"aegnn: {tmp_path / 'nmnist' / 'processed'}")
    assert error.endswith(": cannot be written: File too large\n")
    assert list(tmp_path.glob("nmnist/processed/*/training/*")) == []


def test_what_cannot_be_done_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AEGNN_DATA_DIR", str(tmp_path))
    write_nmnist(tmp_path)

    def refused(*options: str) -> str:
        assert main(["preprocess", "--dataset", "nmnist", "--split", "training", "--num-workers", "0", *options]) == 2
        return capsys.readouterr().err

    (tmp_path / "file").touch()
    assert "Not a directory" in refused("--output", str(tmp_path / "file"))
    assert "no labels for detection" in refused("--task", "detection")
    assert "radius must be a positive" in refused("--radius", "-1")
    assert "--num-workers must be at least 0, found -2" in refused("--num-workers", "-2")
    assert "--downsampling has no effect without --sensor" in refused("--downsampling", "coordinates")
    assert "--num-workers has no effect on the cluster tcp://there:1, which" in refused("--cluster", "tcp://there:1")


def test_recordings_that_cannot_be_read_do_not_hold_up_the_others(tmp_path: Path) -> None:
    write_nmnist(tmp_path)
    write(tmp_path / "nmnist/training/7/00000.bin", b"")
    dataset = open_dataset("nmnist", "training", task="recognition", root=tmp_path)
    with pytest.raises(
        EventFormatError,
        match=r"1 of 10 recordings of nmnist, training, cannot be read, all others are .*7/00000.bin: ",
    ):
        preprocess(dataset, GRAPH, "recognition")
    assert len(stored_files(tmp_path)) == 9


def test_a_bag_that_cannot_be_read_keeps_only_its_own_split_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AEGNN_DATA_DIR", str(tmp_path))
    for split in ("training", "test"):
        write_rosbag_recognition(tmp_path, split)
    write(tmp_path / "rosbag/test/cut_off.mcap", b"")
    assert main(["preprocess", "--dataset", "rosbag", "--num-workers", "0", "--split", "test", "training"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"aegnn: {tmp_path / 'rosbag/test/cut_off.mcap'}: ")
    assert "training: 3 recordings" in said.out


def test_a_cluster_stores_the_same(tmp_path: Path) -> None:
    """Dask's, started on this machine."""
    write_gen1(tmp_path)
    graph = GraphConfig(window=100_000)
    dataset = open_dataset("gen1", "training", task="detection", root=tmp_path)
    done = preprocess(dataset, graph, "detection", workers=1, cluster="local")
    assert (done.recordings, done.built) == (2, 2)
    graphs, fresh = open_graphs(dataset, graph, "detection"), EventSamples(dataset, graph, "detection")
    for index in range(6):
        assert_same(graphs[index], labelled_graph(fresh[index], graph))


def test_training_leaves_out_what_preprocessing_could_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until it has been repaired; the splits after it are stored, too."""
    monkeypatch.setenv("AEGNN_DATA_DIR", str(tmp_path))
    for split in ("training", "validation"):
        write_nmnist(tmp_path, split)
    broken = tmp_path / "nmnist/training/7/00000.bin"
    whole = broken.read_bytes()
    write(broken, b"")
    arguments = ["preprocess", "--dataset", "nmnist", "--num-workers", "0", "--split", "training", "validation"]
    for _ in range(2):  # it is tried again
        assert main(arguments) == 2
        assert "1 of 10 recordings of nmnist, training, cannot be read" in capsys.readouterr().err
    training, validation = (
        open_dataset("nmnist", split, task="recognition", root=tmp_path) for split in ("training", "validation")
    )
    with pytest.warns(UserWarning, match=r"1 of 10 recordings .* are left out: .*7/00000.bin$") as warned:
        graphs = open_graphs(training, GRAPH, "recognition")
    assert len(warned) == 1
    assert [int(graphs[index].y) for index in range(9)] == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert len(open_graphs(validation, GRAPH, "recognition")) == 10
    with pytest.warns(UserWarning, match="1 of 20 recordings of nmnist, training and validation, cannot be read"):
        assert len(open_graphs(training.joined(validation), GRAPH, "recognition")) == 19
    with pytest.raises(EventFormatError, match=r"1 of 1 recordings of nmnist, training, cannot be read; the first: "):
        open_graphs(training.only(7), GRAPH, "recognition")
    broken.write_bytes(whole)
    with pytest.raises(MissingFilesError, match="1 of 10 recordings of nmnist, training, have no stored graphs"):
        open_graphs(open_dataset("nmnist", "training", task="recognition", root=tmp_path), GRAPH, "recognition")
    assert main(arguments) == 0
    assert len(open_graphs(training, GRAPH, "recognition")) == 10
