# SPDX-License-Identifier: Apache-2.0
"""Options of a network are of the kinds that its signature says, and messages say which."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from aegnn_core.nn import network
from aegnn_core.nn.networks import OWN_NETWORKS, network_options
from aegnn_core.nn.option_values import described, fits

KINDS = {
    "a whole number": (int, [0, -3, np.int64(2)], [True, 1.0, "1", None, 10**400]),
    "a number": (float, [0, 1.5, np.float32(2)], [False, "1", None, [1.0], float("nan"), float("inf"), 10**400]),
    "true or false": (bool, [True, False], [0, 1, "yes", None]),
    "a text": (str, ["", "a"], [1, None, ["a"]]),
    "a list of 2 numbers": (tuple[float, float], [[1, 2.5], (1, 2)], [[1], [1, 2, 3], 1, "12", [1, None]]),
    "a list of whole numbers or null": (Sequence[int] | None, [[], [1, 2], (3,), None], [1, [1.5], ["1"], "12"]),
    "a text or a list of texts": (str | Sequence[str], ["a", ["a", "b"]], [1, ["a", 1]]),
    "a list of numbers or nulls": (Sequence[float | None], [[1.5, None], []], [1.5, ["a"]]),
}


@pytest.mark.parametrize("text", KINDS)
def test_values_of_files_fit_the_kinds_of_signatures(text: str) -> None:
    kind, fitting, others = KINDS[text]
    assert described(kind) == text
    assert all(fits(value, kind) for value in fitting)
    assert not any(fits(value, kind) for value in others)


@pytest.mark.parametrize("name", OWN_NETWORKS)
@pytest.mark.parametrize("value", [{"a": 1}, [[[]]]])
def test_what_no_option_takes_is_refused_with_a_sentence_by_every_option_of_every_network(
    name: str, value: Any
) -> None:
    for option in network_options(name):
        with pytest.raises(ValueError, match=f"option {option} of network {name} is .*, expected (a|true) "):
            network(name, dataset="ncars", **{option: value})
