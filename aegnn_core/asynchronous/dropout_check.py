# SPDX-License-Identifier: Apache-2.0
"""Refuses dropout that is called as a function and left on: such a model has no definite answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.nn import functional

__all__ = ["DROPOUTS", "check_dropout"]

#: Functions ``(x, p, training, ...)`` that drop at random.
DROPOUTS = frozenset(
    {
        functional.dropout,
        functional.dropout1d,
        functional.dropout2d,
        functional.dropout3d,
        functional.alpha_dropout,
        functional.feature_alpha_dropout,
    }
)


def check_dropout(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise ``ValueError`` if this call of a torch function drops at random."""
    if func not in DROPOUTS:
        return
    p = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
    default = func not in (functional.alpha_dropout, functional.feature_alpha_dropout)
    if p > 0 and kwargs.get("training", args[2] if len(args) > 2 else default):
        raise ValueError(
            "the model calls dropout in training mode, in which its output depends on chance: call model.eval(), and"
            " pass training=self.training where it is called as a function"
        )
