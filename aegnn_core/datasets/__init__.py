# SPDX-License-Identifier: Apache-2.0
"""Data sets: labelled recordings of the field's data sets, and simulated scenes as training samples."""

from aegnn_core.extras import naming_extras

with naming_extras("recordings"):
    from aegnn_core.datasets.dataset_format import LabelledStream, MissingFilesError
    from aegnn_core.datasets.event_dataset import EventDataset, open_dataset

__all__ = ["EventDataset", "LabelledStream", "MissingFilesError", "open_dataset"]
