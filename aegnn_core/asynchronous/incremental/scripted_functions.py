# SPDX-License-Identifier: Apache-2.0
"""Functions that ``torch.jit.script`` has made, during an update: they run on whole tensors.

A call of one is not a call of a torch function, so nobody hears of it. Their class is therefore changed while a forward
runs. Calls with anything but values of an update work as before. Tried on torch 2.13.
"""

from __future__ import annotations

from typing import Any

import torch

from aegnn_core.asynchronous.incremental.nesting import leaves
from aegnn_core.asynchronous.incremental.replacement import Replacement
from aegnn_core.asynchronous.incremental.tracked import Tracked

__all__ = ["FOLLOWED_SCRIPTS"]

_ORIGINAL = torch.jit.ScriptFunction.__call__


def _call(function: Any, *args: Any, **kwargs: Any) -> Any:
    tracked = next((leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tracked)), None)
    if tracked is None:
        return _ORIGINAL(function, *args, **kwargs)
    return tracked.forward.scripted(function, _ORIGINAL, args, kwargs)


#: Within it, scripted functions take part in updates.
FOLLOWED_SCRIPTS = Replacement(torch.jit.ScriptFunction, {"__call__": _call})
