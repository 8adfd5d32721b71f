"""Fixtures that tests of every part use: real recordings, and a ROS network of the test's own."""

import random
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)  # the tests' tensors are small; threads would only wait for each other
settings.register_profile("aegnn", deadline=None)  # the first example of a test may compile Numba kernels
settings.load_profile("aegnn")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings beside the repository; tests that need it are skipped where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real recordings are not at ../shared/data")
    return folder


@contextmanager
def claimed_ros_domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A ROS domain that no other test run on this machine has, discovered on the loopback only."""
    domains = range(1, 102)  # above 101 the ports of Fast DDS may be those that Linux hands out
    for domain in random.sample(domains, len(domains)):
        with closing(socket.socket()) as claim:
            try:
                claim.bind(("127.0.0.1", 22119 + domain))  # held as long as the test runs
            except OSError:
                continue
            monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
            monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
            yield domain
            return
    raise RuntimeError(f"all ROS domains from {domains.start} to {domains[-1]} are in use by other tests")


@pytest.fixture(autouse=True)
def ros_domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A ROS domain of the test's own."""
    with claimed_ros_domain(monkeypatch) as domain:
        yield domain
