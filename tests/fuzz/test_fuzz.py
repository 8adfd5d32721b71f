# SPDX-License-Identifier: Apache-2.0
"""Some seconds of what ``make fuzz`` does for longer, and that it sees what is wrong."""

from __future__ import annotations

import re

import pytest

from tests.fuzz import campaign
from tests.fuzz.__main__ import KINDS
from tests.fuzz.broken import aborts, never_returns
from tests.fuzz.campaign import run, run_side_by_side
from tests.fuzz.outcomes import Fault, check_refusal
from tests.fuzz.worker import KINDS as KINDS_OF_WORKER

_SECONDS = 6.0
_SEED = 0


def test_what_is_damaged_is_refused_with_a_sentence_or_read_right() -> None:
    assert set(KINDS) == set(KINDS_OF_WORKER)
    found = run(_SECONDS, _SEED, KINDS)
    print(found)
    assert not found.faults, "\n".join(found.faults)
    assert all(found.inputs(name) > 0 for name in KINDS), found


@pytest.mark.parametrize(
    ("work", "reason"), [(aborts, "the process ended with -6"), (never_returns, "no end after 0 s of CPU time")]
)
def test_a_crash_and_a_hang_are_faults_after_which_it_goes_on(
    work: campaign.Work, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "_MOST_WAIT_S", 0.5)
    monkeypatch.setattr(campaign, "_MOST_FAULTS", 2)
    told: list[str] = []
    found = run(60.0, 7, ["files"], tell=told.append, work=work)
    assert found.faults == told
    assert [fault.partition(": ")[0] for fault in told] == [
        f"python -m tests.fuzz --kind 'files' --seed 7 --batch {number}" for number in (1, 3)
    ]
    assert all(f"input 5: {reason}" in fault for fault in told)
    assert (found.counts["files"]["taken"], found.counts["files"]["faults"]) == (20, 2)


def test_processes_side_by_side_have_seeds_of_their_own_and_report_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "_MOST_FAULTS", 1)
    told: list[str] = []
    found = run_side_by_side(2, 60.0, 7, ["files"], told.append, aborts)
    assert sorted(fault.partition(" --batch")[0] for fault in found.faults) == [
        f"python -m tests.fuzz --kind 'files' --seed {seed}" for seed in (7, 8)
    ]
    assert sorted(told) == sorted(found.faults)
    assert (found.counts["files"]["taken"], found.counts["files"]["faults"]) == (20, 2)


def refusal(error: Exception, cause: Exception | None = None) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("a.raw"), "KeyError: 'a.raw'"),
        (ValueError("it is damaged"), r"the message does not name a\.raw: it is damaged"),
        (ValueError("a.raw: " + "x" * 5_000), "the message has 5007 characters"),
        (refusal(ValueError("a.raw: too large"), MemoryError()), "more than the memory was asked for: a.raw"),
    ],
)
def test_what_is_no_refusal_is_a_fault(error: Exception, message: str) -> None:
    check_refusal(OSError("a.raw: no such file"), r"a\.raw")
    with pytest.raises(Fault, match=re.escape(message)):
        check_refusal(error, r"a\.raw")
