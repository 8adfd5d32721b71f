# SPDX-License-Identifier: Apache-2.0
"""Model files from the checkpoints of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from aegnn_core.nn.checkpoint import DESCRIPTION, TrainedModel, check_output, restore, save_model
from aegnn_core.registry import Trust

__all__ = ["export_checkpoint", "read_checkpoint"]

#: How the learner calls its network.
_PREFIX = "network."


def export_checkpoint(
    checkpoint: str | Path, output: str | Path, *, half: bool = False, trust_code: Trust = False
) -> TrainedModel:
    """Write the model of a Lightning checkpoint to ``output`` (``.safetensors``); of an average of weights, that one.

    With ``half``, the file has weights of 16 bits; a network of another package is imported by ``trust_code``, see
    :func:`aegnn_core.nn.checkpoint.load_model`.

    Raises:
        ValueError: no such file, not a checkpoint of a training of this package, or another ending of ``output``.
        OSError: nothing can be written there.
    """
    checkpoint, output = Path(checkpoint), Path(output)
    check_output(output)
    state = read_checkpoint(checkpoint)
    weights = {name.removeprefix(_PREFIX): value for name, value in state["state_dict"].items()}
    model = restore(state[DESCRIPTION], weights, output, trust_code)
    save_model(output, model, half=half)
    return model


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint of a training of this package holds; nothing but plain values and tensors is unpickled.

    Raises:
        ValueError: no such file, or not such a checkpoint.
    """
    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises errors of a dozen kinds on a damaged file
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ValueError(f"{path} is not a readable checkpoint: {reason}") from error
    if isinstance(state, dict) and DESCRIPTION in state:
        weights = state.get("state_dict")
        if isinstance(weights, dict) and all(isinstance(name, str) for name in weights):
            return state
    raise ValueError(f"{path} does not describe a model: it was not written by aegnn train")
