# SPDX-License-Identifier: Apache-2.0
"""What the tests rely on, however they are run."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_processes_of_tests_can_be_interrupted_although_the_tests_run_in_the_background() -> None:
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); import tests.conftest;"
        " print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "True"


def test_only_tests_of_real_time_run_again(request: pytest.FixtureRequest) -> None:
    pytest.importorskip("pytest_rerunfailures")
    again = {item.nodeid for item in request.session.items if item.get_closest_marker("flaky")}
    assert again == {item.nodeid for item in request.session.items if item.get_closest_marker("real_time")}
