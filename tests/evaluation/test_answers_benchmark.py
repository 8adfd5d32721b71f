# SPDX-License-Identifier: Apache-2.0
"""The benchmark of answers runs, on the engine as it is."""

from benchmarks.answers import compare_threads, measure


def test_every_way_to_an_answer_is_measured() -> None:
    seconds = measure("scenes_detector", 33_000, 2)
    heads = {way for way in seconds if way.startswith("head") and not way.endswith("FLOP")}
    assert len(heads) == 4
    assert all(len(seconds[way]) == 2 for way in {*heads, "output()", "boxes", "boxes, all cells decoded"})


def test_numbers_of_threads_are_compared_by_time_since_the_update() -> None:
    seconds = compare_threads("scenes_detector", [1, 2], 33_000, 2)
    assert len(seconds) == 6
    assert all(len(times) == 2 and min(times) > 0 for times in seconds.values())
