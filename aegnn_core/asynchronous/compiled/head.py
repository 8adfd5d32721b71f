# SPDX-License-Identifier: Apache-2.0
"""The head as it runs fastest on the CPU: compiled as far as it is one of images, else in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aegnn_core.asynchronous.compiled.counts import log_table, logarithms
from aegnn_core.asynchronous.compiled.cropped_pictures import Pictures
from aegnn_core.asynchronous.compiled.image_head import ImageHead, channels_last
from aegnn_core.asynchronous.folded_head import TorchHead, fold_norms
from aegnn_core.asynchronous.metering import forward_flops
from aegnn_core.asynchronous.torch_internals import has_hooks
from aegnn_core.nn.class_head import ClassHead
from aegnn_core.nn.cropped_head import CroppedHead, CroppedViews

__all__ = ["ClassScores", "make_head"]


def make_head(
    head: nn.Module, shape: tuple[int, int, int], dtype: type, threads: int = 1, of_counts: bool = False
) -> ImageHead | TorchHead | ClassScores:
    """What computes a head's answers to single images fastest, the same to rounding.

    Args:
        head: in evaluation mode, on the CPU; its weights are copied.
        shape: channels, rows and columns of the images.
        dtype: of the weights.
        threads: that work on an answer, as far as the head is one of images.
        of_counts: whether it is given numbers of events, and has to see their logarithms.
    """
    folded = fold_norms(head)
    try:
        if _is_class_head(folded):
            return ClassScores(folded, shape, dtype, threads, of_counts)
        return ImageHead([folded], [shape], dtype, threads, of_counts)
    except NotImplementedError:  # it is not one of images
        return TorchHead(_BehindLogarithms(folded, dtype) if of_counts else folded)


def _is_class_head(head: nn.Module) -> bool:
    """Whether a head does what a :class:`ClassHead` does, or the mean of several, and nothing else."""
    kind = CroppedViews if isinstance(head, CroppedViews) else ClassHead
    return (
        isinstance(head, kind)
        and getattr(head.forward, "__func__", None) is kind.forward
        and not has_hooks(head)
        and all(map(_is_class_head, head.views if isinstance(head, CroppedViews) else ()))
    )


class ClassScores:
    """A recogniser's head, or the mean of several: layers and cropped pictures compiled, the rest in torch.

    Args:
        head: a :class:`ClassHead` or :class:`CroppedViews`, otherwise as for :func:`make_head`.

    Attributes:
        threads: that work on an answer.
        flops: of the last answer.

    Raises:
        NotImplementedError: layers do anything else with their image than compiled code can.
    """

    description = "convolutions compiled, all else in torch"

    def __init__(
        self, head: nn.Module, shape: tuple[int, int, int], dtype: type, threads: int, of_counts: bool
    ) -> None:
        self._logarithms = _Logarithms(dtype) if of_counts else None
        self._views: list[Any] = list(head.views) if isinstance(head, CroppedViews) else [head]
        is_cropped = all(type(view) is CroppedHead and "picture" not in vars(view) for view in self._views)
        self._pictures = Pictures(self._views, shape, dtype) if is_cropped else None
        if is_cropped:
            self.description = "pictures and convolutions compiled, scores in torch"
        image = torch.from_numpy(np.zeros((1, *shape), dtype))
        self._flops_in_torch = 0
        shapes: list[tuple[int, int, int]] = []
        for view in self._views:
            picture = view.picture(image)
            _, channels, rows, columns = picture.shape
            shapes.append((channels, rows, columns))
            self._flops_in_torch += forward_flops(_Step(view, "scores"), view.layers(picture))
            if not is_cropped:
                self._flops_in_torch += forward_flops(_Step(view, "picture"), image)
        self._layers = ImageHead([view.layers for view in self._views], shapes, dtype, threads)
        self.threads = threads

    def __call__(self, image: Tensor) -> Tensor:
        """The answer to ``image [1, channels, rows, columns]``, or to such counts."""
        if self._logarithms is not None:
            image = self._logarithms(image)
        answers = self._features(image)
        return torch.stack([view.scores(answer) for view, answer in zip(self._views, answers, strict=True)]).mean(0)

    def _features(self, image: Tensor) -> list[Tensor]:
        """What the layers of every view give."""
        if self._pictures is not None:
            self._pictures.take(channels_last(image), self._layers.images)
        elif len(self._views) == 1:  # nothing has to be copied
            return [self._layers(self._views[0].picture(image))]
        else:
            for view, taken in zip(self._views, self._layers.images, strict=True):
                taken[:] = channels_last(view.picture(image)).reshape(-1)
        return self._layers.answers()

    @property
    def flops(self) -> int:
        """Of the last answer."""
        pictures = 0 if self._pictures is None else self._pictures.flops
        return self._flops_in_torch + self._layers.flops + pictures

    @property
    def memory(self) -> int:
        """Bytes of the images."""
        return self._layers.memory


class _Step(nn.Module):
    """One of a head's steps, ``picture`` or ``scores``, by itself."""

    def __init__(self, head: ClassHead, name: str) -> None:
        super().__init__()
        self._head, self._name = head, name

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = getattr(self._head, self._name)(image)
        return result


class _Logarithms:
    """``log(1 + n)`` of images of counts."""

    def __init__(self, dtype: type) -> None:
        self._table = log_table(dtype)

    def __call__(self, counts: Tensor) -> Tensor:
        """``counts [1, channels, rows, columns]`` int32, channels last → the same, of the type."""
        cells = counts.permute(0, 2, 3, 1)
        image = np.empty(tuple(cells.shape), self._table.dtype)
        logarithms(cells.numpy().reshape(-1), self._table, image.reshape(-1))
        return torch.from_numpy(image).permute(0, 3, 1, 2)


class _BehindLogarithms(nn.Module):
    """A head behind ``log(1 + n)``."""

    def __init__(self, head: nn.Module, dtype: type) -> None:
        super().__init__()
        self._head, self._logarithms = head, _Logarithms(dtype)

    def forward(self, counts: Tensor) -> Tensor:
        """``counts [1, channels, rows, columns]`` int32, channels last → the head's answer."""
        answer: Tensor = self._head(self._logarithms(counts))
        return answer
