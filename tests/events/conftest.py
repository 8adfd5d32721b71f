"""Real recordings for the tests that want them."""

from __future__ import annotations

from pathlib import Path

import pytest

RECORDINGS = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Folder of public recordings beside the repository; the test is skipped where there is none."""
    if not RECORDINGS.is_dir():
        pytest.skip("no real recordings in ../shared/data")
    return RECORDINGS
