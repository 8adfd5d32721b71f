# SPDX-License-Identifier: Apache-2.0
"""The benchmark of long runs refuses what it could not judge."""

import pytest

from benchmarks.soak import FEWEST, main


def test_too_few_events_for_its_tenths_are_refused_before_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--events", "100000"])
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith(f"error: --events 100000: expected at least {FEWEST}, as memory is compared by tenths")
