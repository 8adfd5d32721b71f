# SPDX-License-Identifier: Apache-2.0
"""Figures of merit."""

from aegnn_core.extras import naming_extras

with naming_extras("evaluation"):
    from aegnn_core.evaluation.average_precision import AveragePrecision, average_precision
    from aegnn_core.evaluation.evaluate import Accuracy, Agreement, Evaluation, EventRates, evaluate
    from aegnn_core.evaluation.model_on_camera import ModelOnCamera
    from aegnn_core.evaluation.moments import LabelledRecordings, dataset_moments, simulated_moments

__all__ = [
    "Accuracy",
    "Agreement",
    "AveragePrecision",
    "Evaluation",
    "EventRates",
    "LabelledRecordings",
    "ModelOnCamera",
    "average_precision",
    "dataset_moments",
    "evaluate",
    "simulated_moments",
]
