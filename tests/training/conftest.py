# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests of training: logs of the test's own, and a tiny data set."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the logs."""
    monkeypatch.setenv("AEGNN_LOG_DIR", str(tmp_path / "logs"))
    return tmp_path / "logs"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Several threads are slow in small updates, the more so beside worker processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def nmnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten tiny recordings per split whose digit is the row of their events."""
    rng = np.random.default_rng(0)
    for split in ("training", "validation"):
        for digit in range(10):
            folder = tmp_path / "data" / "nmnist" / split / str(digit)
            folder.mkdir(parents=True)
            t, x = np.sort(rng.integers(0, 2**16, 150)), rng.integers(0, 34, 150)
            rows = zip(x.tolist(), t.tolist(), strict=True)
            events = b"".join(bytes([x, 3 * digit, 128, t >> 8, t & 255]) for x, t in rows)
            (folder / "00001.bin").write_bytes(events)
    monkeypatch.setenv("AEGNN_DATA_DIR", str(tmp_path / "data"))
    return tmp_path
