# SPDX-License-Identifier: Apache-2.0
"""Convolutions on a GPU keep all bits of float32 while a live model answers, and are as they were afterwards."""

import torch

from aegnn_core.asynchronous.full_precision import full_precision


def tf32_allowed() -> bool:
    return torch.backends.cudnn.allow_tf32


def test_tf32_is_not_used_within_and_comes_back_with_the_last() -> None:
    gpu = torch.device("cuda")
    assert tf32_allowed()
    with full_precision(torch.device("cpu")):
        assert tf32_allowed()
    first, second = full_precision(gpu), full_precision(gpu)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)  # as one of two threads
    inside = torch.backends.cudnn.conv.fp32_precision
    second.__exit__(None, None, None)
    assert inside == "ieee"
    assert tf32_allowed()
