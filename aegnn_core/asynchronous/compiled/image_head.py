# SPDX-License-Identifier: Apache-2.0
"""Networks of convolutions on images, as compiled code: norms folded, sums and activations in the same pass."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise, zip_longest
from math import gcd

import numpy as np
import torch
from torch import Tensor, nn

from aegnn_core.asynchronous.array_table import addresses, array_table
from aegnn_core.asynchronous.compiled.counts import log_table
from aegnn_core.asynchronous.compiled.crew import Crew, check_sleep
from aegnn_core.asynchronous.compiled.image_layers import (
    CONVOLUTION,
    IMAGE_LAYER,
    IMAGE_PART,
    MOST_AT_ONCE,
    TAKE,
    TILES_AT_ONCE,
    ImageParts,
    Workspace,
    run_image_layers,
)
from aegnn_core.asynchronous.compiled.image_plan import BEFORE_IMAGE, Image, Layer, Plan, TracedAnswer, trace
from aegnn_core.asynchronous.compiled.memory import aligned
from aegnn_core.asynchronous.compiled.pipeline import Words

__all__ = ["ImageHead", "channels_last"]

#: The fewest places, and the fewest registers of results, that make a part of a layer worth a thread of its own.
_LEAST_PLACES, _LEAST_REGISTERS = 96, 3
#: Most parts of a layer for each thread: the more parts, the shorter the wait for the last one.
_MOST_PARTS = 4


def _follow_images(dtype: type, words: np.ndarray, member: int) -> None:
    """Work on parts of images, as one thread of several, until told to end."""
    run_image_layers(np.empty(0, np.uint32), False, addresses([words]), dtype(0), member)
    check_sleep(words)


def _workspace(layers: list[Layer], dtype: type) -> Workspace:
    """What one thread needs for any part of any of the layers."""
    most = max(len(layer.gives) for layer in layers) + MOST_AT_ONCE
    tiles = [(TILES_AT_ONCE[layer.kind] + 1, layer) for layer in layers if layer.kind in TILES_AT_ONCE]
    most_tiles = max(TILES_AT_ONCE.values()) + MOST_AT_ONCE
    return Workspace(
        read_at=np.zeros(most, np.int64),
        write_at=np.zeros(most, np.int64),
        tile_at=np.zeros(most_tiles, np.int64),
        sums_at=np.zeros(most_tiles, np.int64),
        tiles=aligned(max([0, *(layer.side**2 * room * layer.source.width for room, layer in tiles)]), dtype),
        sums=aligned(max([0, *(layer.side**2 * room * layer.outputs for room, layer in tiles)]), dtype),
    )


def channels_last(image: Tensor) -> np.ndarray:
    """``image [1, channels, rows, columns]`` as an array ``[rows, columns, channels]``, copied if it lies otherwise."""
    return np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())


def _words(image: Image, dtype: type) -> int:
    """Of four bytes, that an image without margins has; an even number."""
    size = image.rows * image.columns * image.width * np.dtype(dtype).itemsize // 4
    return size + size % 2


def _shares(count: int, parts: int) -> list[tuple[int, int]]:
    """Where each of as many equal parts as there can be begins, and how many are in it."""
    bounds = [count * part // parts for part in range(parts + 1)]
    return [(begin, end - begin) for begin, end in pairwise(bounds) if end > begin]


class ImageHead:
    """Computes networks' answers to images in compiled code, and of an image only what has changed since the last.

    Several networks, each with an image of its own, take turns layer by layer, so that threads share their work evenly.

    Args:
        heads: convolutions of 3 x 3 or 1 x 1 with the norms folded into them, ELU, ReLU, sums, nearest enlarging and
            concatenation, and perhaps channels last at the end; in evaluation mode, on the CPU. Weights are copied.
        shapes: channels, rows and columns of each head's image.
        dtype: of the weights.
        threads: that work on an answer.
        of_counts: whether the image, of a single head, has numbers of events (int32, an even number of channels) of
            which the head sees ``log(1 + n)``.

    Attributes:
        images: where those are to be written that :meth:`answers` takes, pixels one behind the other.
        threads: that work on an answer.

    Raises:
        NotImplementedError: a head does anything else with its image.
    """

    description = "compiled, changed pixels only"

    def __init__(
        self,
        heads: Sequence[nn.Module],
        shapes: Sequence[tuple[int, int, int]],
        dtype: type,
        threads: int = 1,
        of_counts: bool = False,
    ) -> None:
        assert not of_counts or (len(heads) == 1 and shapes[0][0] % 2 == 0), "counts are compared two at a time"
        plan = Plan(dtype)
        taken = [plan.image(columns, rows, np.arange(channels), channels) for channels, rows, columns in shapes]
        answers: list[TracedAnswer] = []
        ranks: list[list[Layer]] = []
        for head, image in zip(heads, taken, strict=True):
            plan.layers = []
            answers.append(trace(head, plan, image))
            take = Layer(TAKE, image, image, np.arange(image.rows), np.arange(image.rows), image.width)
            ranks.append([take, *plan.layers])
        self.threads: int = threads
        self._kind = dtype(0)
        self._crew: Crew = Crew(threads, 1, partial(_follow_images, dtype))
        self._is_unfinished = True
        self._write_down([list(filter(None, rank)) for rank in zip_longest(*ranks)], plan, taken, of_counts)
        self._answers = [self._answer(answer) for answer in answers]

    def _answer(self, answer: TracedAnswer) -> Tensor:
        """The part of the features that is an answer."""
        image = answer.image
        pixels = self._shared.features[image.begin :][: image.pixels * image.width].reshape(-1, image.line, image.width)
        inside = pixels[BEFORE_IMAGE:, BEFORE_IMAGE:, : len(image.position)][: image.rows, : image.columns]
        seen = torch.from_numpy(inside[None])
        return seen if answer.channels_last else seen.permute(0, 3, 1, 2)

    def _write_down(self, ranks: list[list[Layer]], plan: Plan, taken: list[Image], of_counts: bool) -> None:
        """Make the tables that the compiled code reads.

        Args:
            ranks: layers of as many heads as have so many; the layers of a rank need those of the ranks before.
            plan: of the images.
            taken: those that are taken in.
            of_counts: whether that one is of counts.
        """
        layers, dtype = [layer for rank in ranks for layer in rank], plan.dtype
        records = np.zeros(len(layers), IMAGE_LAYER)
        first = np.cumsum([0, *(len(layer.gives) for layer in layers)])
        constants = [part.ravel() for layer in layers for part in (layer.weight, layer.bias) if part is not None]
        constants.insert(0, np.zeros(max(layer.outputs for layer in layers), dtype))
        begin = iter(np.cumsum([*map(len, constants)]))
        words = [_words(image, dtype) for image in taken]
        # Where nobody writes there, it takes no memory.
        self._bits: np.ndarray = aligned(sum(words), np.uint32)
        self.images: list[np.ndarray] = [
            self._bits[end - size : end].view(dtype)[: image.rows * image.columns * image.width]
            for image, size, end in zip(taken, words, accumulate(words), strict=True)
        ]
        for record, layer in zip(records, layers, strict=True):
            source, result, skip = layer.source, layer.result, layer.skip
            record["kind"] = layer.kind
            if layer.weight is not None:
                record["weight"], record["bias"] = next(begin), next(begin)
                record["parts"], record["rows"] = layer.side, layer.side * source.width
            record["step"], record["inputs"], record["outputs"] = source.pitch, source.width, layer.outputs
            record["width"], record["pitch"] = result.width, result.pitch
            if skip is not None:
                record["skip"], record["skip_mark"] = skip.begin - result.begin, skip.first_mark - result.first_mark
            record["activation"], record["side"], record["block"] = layer.activation, layer.side, layer.block
            record["joins"] = layer.offset > 0
            record["source_line"], record["line"] = source.line, result.line
            record["corner"] = result.begin + result.first * result.width
            record["corner_mark"] = result.first_mark + result.first
            record["columns"], record["lines"] = result.columns, result.rows
            record["source_at"], record["source_mark"] = source.begin, source.first_mark
            if layer.kind == TAKE:
                record["taken_at"] = sum(words[: taken.index(source)])
            # Counts of events are zeros in many places; what comes behind an activation seldom is.
            record["sparse"] = layer.kind == CONVOLUTION and source in taken and skip is None
        parts = self._parts(ranks, first.tolist(), plan.lanes)
        self._flops_of_place = np.array(
            [layers[n].flops() * (until - lane) // layers[n].outputs for n, _, _, lane, until, _ in parts], np.int64
        )
        self._shared = ImageParts(
            layers=records,
            parts=np.array(parts, IMAGE_PART),
            features=np.zeros(plan.size + plan.size % 2, dtype),  # whole words of eight bytes
            constants=np.concatenate(constants),
            marks=np.zeros(plan.marks, np.bool_),
            occupied=np.zeros(sum(image.pixels for image in taken), np.bool_),
            read_at=np.concatenate([layer.source.begin + layer.needs * layer.source.width for layer in layers]),
            write_at=np.concatenate(
                [layer.result.begin + layer.gives * layer.result.width + layer.offset for layer in layers]
            ),
            seen_at=np.concatenate([layer.source.first_mark + layer.needs for layer in layers]),
            mark_at=np.concatenate([layer.result.first_mark + layer.gives for layer in layers]),
            computed=np.zeros(len(parts), np.int64),
            counts=np.zeros(len(self.images[0]) * of_counts, np.uint32),
            logarithms=log_table(dtype),
        )
        self._workspaces = [_workspace(layers, dtype) for _ in range(self.threads)]
        kinds = (Words, ImageParts, *[Workspace] * self.threads)
        self._arrays = array_table((Words(self._crew.words), self._shared, *self._workspaces), kinds, dtype)

    def _parts(self, ranks: list[list[Layer]], first: list[int], lanes: int) -> list[tuple[int, ...]]:
        """Records of :data:`IMAGE_PART`: as many parts of every rank as threads can share, in the order of ranks."""
        parts: list[tuple[int, ...]] = []
        n = 0
        for rank in ranks:
            after = len(parts)
            # The fewest parts of each of so many layers of which every thread has as many.
            team = self.threads // gcd(self.threads, len(rank))
            for layer in rank:
                count, across, along = len(layer.gives), 1, 1
                if team > 1:
                    if layer.weight is not None and count <= _LEAST_PLACES:
                        # Few places: every thread reads a part of the weights only.
                        across = max(1, min(team, layer.outputs // (lanes * _LEAST_REGISTERS)))
                    along = -(-team // across) * max(1, min(_MOST_PARTS, count // (_LEAST_PLACES * team)))
                for begin, some in _shares(count, along):
                    for lane, wide in _shares(layer.outputs // lanes, across) if across > 1 else [(0, 0)]:
                        until = (lane + wide) * lanes if wide else layer.outputs
                        at = begin if layer.kind == TAKE else first[n] + begin
                        parts.append((n, at, some, lane * lanes, until, after))
                n += 1
        return parts

    def __call__(self, image: Tensor) -> Tensor:
        """The answer of a single head to ``image [1, channels, rows, columns]``.

        It is copied if its channels do not come last; of the head's type, or of counts where the head is one of counts.
        """
        return self._run(channels_last(image).reshape(-1).view(np.uint32))[0]

    def answers(self) -> list[Tensor]:
        """The heads' answers to what has been written into :attr:`images`."""
        return self._run(self._bits)

    def _run(self, bits: np.ndarray) -> list[Tensor]:
        self._crew.begin()
        # If the last answer was interrupted, pixels that were marked as changed have not been computed.
        is_new, self._is_unfinished = self._is_unfinished, True
        run_image_layers(bits, is_new, self._arrays, self._kind, 0)
        self._is_unfinished = False
        return [answer.clone() for answer in self._answers]

    @property
    def flops(self) -> int:
        """Of the last answer."""
        return int(self._flops_of_place @ self._shared.computed)

    @property
    def memory(self) -> int:
        """Bytes of the images."""
        return self._shared.features.nbytes + self._shared.counts.nbytes
