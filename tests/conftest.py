"""Fixtures that tests of every part use: real recordings, and a ROS network of the test's own."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from aegnn_ros.ros_domain import OTHER_DISCOVERY, claim_ros_domain

torch.set_num_threads(1)  # the tests' tensors are small; threads would only wait for each other
settings.register_profile("aegnn", deadline=None)  # the first example of a test may compile Numba kernels
settings.load_profile("aegnn")


#: Where ROS is not installed, its tests cannot even be collected.
collect_ignore = [] if find_spec("rclpy") else ["ros"]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what has been left out, as skipped tests are listed."""
    if collect_ignore:
        terminalreporter.write_line("SKIPPED tests/ros: ROS 2 is not installed")


# A background job of a shell ignores Ctrl-C, and what the tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings beside the repository; tests that need it are skipped where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real recordings are not at ../shared/data")
    return folder


@contextmanager
def claimed_ros_domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A ROS domain of the test's own, discovered on the loopback only."""
    domain, claim = claim_ros_domain()
    with claim:
        for name in OTHER_DISCOVERY:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
        monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        yield domain


@pytest.fixture(autouse=True)
def ros_domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A ROS domain of the test's own."""
    with claimed_ros_domain(monkeypatch) as domain:
        yield domain
