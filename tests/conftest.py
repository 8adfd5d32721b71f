# SPDX-License-Identifier: Apache-2.0
"""What tests of every part use: recordings, a ROS network of the test's own, and how they run in several processes."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

# The engine cuda runs on the CPU then; Triton looks when it is imported. With 0, tests of a CUDA device run there.
os.environ.setdefault("TRITON_INTERPRET", "1")

import torch
from hypothesis import settings

from aegnn_core.triton_support import interpreted
from aegnn_ros.playback.ros_domain import OTHER_DISCOVERY, claim_ros_domain
from tests.recordings import REAL, make_recording

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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several processes share the tests: each file is one's, and one has all that start nodes.

    So modules make their fixtures once, and no two tests that watch the time of nodes disturb each other. Who asks for
    another distribution gets it.
    """
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "tests/ros" if file.startswith("tests/ros/") else file

    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let a test that measures real time run again when it fails, which the summary shows; say what cannot run."""
    without_triton = pytest.mark.skip(reason="the engine cuda needs Triton: pip install triton")
    on_device = pytest.mark.skip(reason="with TRITON_INTERPRET=0 the engine cuda cannot run on the CPU")
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec and callspec.params.get("engine") == "cuda":
            if find_spec("triton") is None:
                item.add_marker(without_triton)
            elif not interpreted():
                item.add_marker(on_device)
        if mark := item.get_closest_marker("real_time"):
            if not mark.kwargs.get("reason"):
                raise pytest.UsageError(f'{item.nodeid}: real_time wants a reason: real_time(reason="...")')
            if config.pluginmanager.hasplugin("rerunfailures"):
                item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings beside the repository; tests that need it are skipped where it is absent."""
    if not REAL.is_dir():
        pytest.skip("real recordings are not at ../shared/data")
    return REAL


@pytest.fixture(scope="session")
def made_recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for recordings that tests make."""
    return tmp_path_factory.mktemp("recordings")


@pytest.fixture
def recording(request: pytest.FixtureRequest, made_recordings: Path) -> Path:
    """A recording, made or real, by the name that :func:`tests.recordings.recordings` gives a test."""
    name = request.param
    return make_recording(made_recordings, name) if name.startswith("made/") else REAL / name


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
