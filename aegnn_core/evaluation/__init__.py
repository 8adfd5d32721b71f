"""Figures of merit."""

from aegnn_core.evaluation.average_precision import AveragePrecision, average_precision

__all__ = ["AveragePrecision", "average_precision"]
