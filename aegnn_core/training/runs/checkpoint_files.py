# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are written whole or not at all, whenever the process or the machine stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from aegnn_core.whole_files import whole_file

__all__ = ["WholeCheckpoints"]


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside the one before, and puts it in its place when it is on the disk.

    Lightning itself writes to the system's temporary folder, from where it may have to be copied.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write ``checkpoint`` to ``path``."""
        with whole_file(Path(path)) as file:
            torch.save(checkpoint, file)
