# SPDX-License-Identifier: Apache-2.0
"""Launches of the kernels with the right arguments and block sizes, and the way of packets to the device."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from time import perf_counter, sleep
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aegnn_core.asynchronous.cuda.packing import HEAD_WORDS, TURN
from aegnn_core.asynchronous.cuda.plan import CellMap, Disc, Layer, Splines, power_of_two
from aegnn_core.asynchronous.cuda.rings import NodeRings, Rings
from aegnn_core.triton_support import interpreted

__all__ = ["Blocks", "Kernels", "Upload"]

#: Elements that a program of the search, and of the pooling, works on side by side.
_LANES_AT_ONCE = 128
_POOLED_AT_ONCE = 1024
#: Events that a program links, and with how many others at once.
_LINKED_AT_ONCE, _COMPARED_AT_ONCE = 8, 512
#: Events of a program of the convolution where every pixel has a slot of its own: the more, the fewer read its weights.
_OWN_SLOTS_EVENTS = 16
#: Packets up to here do not fill a device with programs of that size.
_FEW_EVENTS = 2048
#: Sides of the part of an image's convolution that a program computes: pixels, outputs, and terms at a time; and how
#: many programs there have to be at least for parts twice as large.
_IMAGE_PIXELS, _IMAGE_OUTPUTS, _IMAGE_TERMS, _IMAGE_PROGRAMS = 16, 16, 32, 256
_IMAGE_WARPS, _IMAGE_STAGES = 4, 3
#: The interpreter has a price per operation, however large.
_INTERPRETED_EVENTS = 128
#: How long the host looks for what the device has read, before it asks the driver [s].
_PATIENCE = 0.02


class Blocks:
    """How many events or cells a program of each kernel takes.

    Args:
        lanes: pixels within the radius.
        on_device: or in the interpreter.
    """

    def __init__(self, lanes: int, *, on_device: bool) -> None:
        self.on_device = on_device
        self.lanes = power_of_two(lanes)
        least = 1 if on_device else _INTERPRETED_EVENTS
        self.insert = max(256, least)
        self.link = max(_LINKED_AT_ONCE, least)
        self.others = _COMPARED_AT_ONCE if on_device else _INTERPRETED_EVENTS
        self.convolve = max(16, least)
        self.count = max(256, least)

    def search(self, count: int) -> int:
        """Events per program of the search, of ``count`` in all."""
        if not self.on_device:
            return _INTERPRETED_EVENTS
        return max((_LANES_AT_ONCE // 2 if count <= _FEW_EVENTS else _LANES_AT_ONCE) // self.lanes, 1)

    def pool(self, channels: int) -> int:
        """Cells per program of the pooling of so many features."""
        return max(_POOLED_AT_ONCE // channels, 1, 1 if self.on_device else _INTERPRETED_EVENTS)

    def image(self, pixels: int, outputs: int) -> tuple[int, int, int]:
        """Pixels and outputs per program of an image's convolution, and terms at a time."""
        if not self.on_device:
            return power_of_two(max(pixels, 16)), power_of_two(max(outputs, 16)), _INTERPRETED_EVENTS
        programs = -(-pixels // _IMAGE_PIXELS) * -(-outputs // _IMAGE_OUTPUTS)
        twice = 2 if programs >= 2 * _IMAGE_PROGRAMS else 1
        return twice * _IMAGE_PIXELS, _IMAGE_OUTPUTS, _IMAGE_TERMS


class Upload:
    """Buffers in the host's memory that a device reads by itself, one after the other, so that some can wait for it.

    What is written into one has a turn, one more than what was written before. A kernel that runs when a buffer has
    been read writes its turn into ``read``, where the host sees it without a call of the driver.

    Args:
        words: for which there is room in each, behind the head.
        device: that reads them.
        buffers: how many.

    Attributes:
        number: of the buffer in use. A launch that is made again reads the same one.
        read: ``[1]`` the turn that was read last, in the host's memory.
    """

    def __init__(self, words: int, device: torch.device, buffers: int = 3) -> None:
        pinned = device.type == "cuda"
        size = HEAD_WORDS + words
        self._host = [torch.zeros(size, dtype=torch.int64, device="cpu", pin_memory=pinned) for _ in range(buffers)]
        self._words = [buffer.numpy() for buffer in self._host]
        self.read = torch.zeros(1, dtype=torch.int64, device="cpu", pin_memory=pinned)
        self._turns = [0] * buffers
        self._wait = partial(_wait, self.read.numpy(), device)
        self.number = 0
        # Torch knows nothing of a device that reads them by itself, and would give them away at once.
        weakref.finalize(self, _keep_until_read, self._host, self.read, self._turns, self._wait)

    def begin(self) -> np.ndarray:
        """The next buffer to write to; waits until it has been read, if it was written before."""
        turn = max(self._turns) + 1
        self.number = (self.number + 1) % len(self._host)
        self._wait(self._turns[self.number])
        words = self._words[self.number]
        words[TURN] = turn
        return words

    @property
    def buffer(self) -> Tensor:
        """What was written."""
        return self._host[self.number]

    def launched(self) -> None:
        """All that reads the buffer is in the device's queue."""
        self._turns[self.number] = int(self._words[self.number][TURN])

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers."""
        return sum(words.nbytes for words in self._words)


class Kernels:
    """The kernels; every method puts one launch in the device's queue. Packets may be shorter than ``count``.

    Args:
        lanes: pixels within the radius.
        kernels: by name, as attributes; :mod:`.kernels` if None.
    """

    def __init__(self, lanes: int, kernels: Any = None) -> None:
        if kernels is None:
            from aegnn_core.asynchronous.cuda import kernels  # Triton may be missing where nobody needs it
        self._all: Any = kernels
        self.blocks = Blocks(lanes, on_device=not interpreted())

    def insert(self, packet: Tensor, head: Tensor, count: int, rings: NodeRings, tally: Tensor) -> None:
        """Enter a packet into the rings, and tell the others of it by ``head``."""
        self._all.insert[_programs(count, self.blocks.insert)](
            packet, head, rings.node_t, rings.pixel, rings.back, rings.before_t, rings.features[0], rings.newest, tally,
            rings.mask,
            EVENTS=self.blocks.insert,
        )  # fmt: skip

    def link(self, head: Tensor, count: int, rings: NodeRings, read: Tensor) -> None:
        """Link the packet's events with one another, and say by ``read`` that it has been read."""
        self._all.link[_programs(count, self.blocks.link)](
            head, rings.node_t, rings.pixel, rings.back, rings.before_t, rings.newest, read, rings.mask,
            EVENTS=self.blocks.link, OTHERS=self.blocks.others,
        )  # fmt: skip

    def search(
        self, head: Tensor, count: int, rings: NodeRings, disc: Disc, scale: Tensor, edges: tuple[Tensor, ...],
        tally: Tensor, most_back: int, most: int,
    ) -> None:  # fmt: skip
        """Find the packet's neighbours: ``edges`` are the distances, counts, lanes and ages to write."""
        distance, counts, kind, age = edges
        events = self.blocks.search(count)
        self._all.search[_programs(count, events)](
            head, rings.node_t, rings.pixel, rings.back, rings.before_t, rings.newest, disc.offsets, disc.reach,
            scale, distance, kind, age, counts, tally, rings.mask, len(counts) - 1, most_back, most, len(disc),
            EVENTS=events, LANES=self.blocks.lanes, num_warps=max(1, min(events * self.blocks.lanes // 256, 8)),
        )  # fmt: skip

    def convolve(
        self, head: Tensor, count: int, rings: Rings, edges: tuple[Tensor, ...], splines: Splines, layer: Layer,
        n: int,
    ) -> None:  # fmt: skip
        """Take a packet through layer ``n``."""
        distance, counts, kind, age = edges
        features = rings.features[n]
        skip = features if layer.begin is None else rings.features[layer.begin]
        events = max(self.blocks.convolve, _OWN_SLOTS_EVENTS if splines.own else 0)
        self._all.convolve[_programs(count, events)](
            head, distance, kind, age, counts, splines.shares, layer.weight,
            layer.weight if layer.root is None else layer.root, layer.weight if layer.bias is None else layer.bias,
            layer.norm, features, skip, rings.features[n + 1], rings.mask, len(counts) - 1, distance.shape[1],
            SLOTS=splines.table.slots, TIMES=splines.times, TIME_INTERVALS=splines.time_intervals,
            CHANNELS=layer.inputs, FEATURES=layer.outputs, EVENTS=events, INPUTS=layer.block_inputs,
            OUTPUTS=layer.block_outputs, ROOT=layer.block_root, MEAN=layer.mean, HAS_ROOT=layer.root is not None,
            HAS_BIAS=layer.bias is not None, HAS_SKIP=layer.begin is not None,
            AT_ONCE=layer.at_once, OWN=splines.own, num_warps=layer.warps,
        )  # fmt: skip

    def take_moment(self, words: Tensor, moment: Tensor, read: Tensor) -> None:
        """Bring an answer's ``moment`` to the device, and say by ``read`` that it has been read."""
        self._all.take_moment[(1,)](words, moment, read, num_warps=1)

    def pool_cells(self, moment: Tensor, rings: Rings, cells: CellMap) -> Tensor:
        """Maxima of the last layer's features, ``[parts, channels, cells]``."""
        features = rings.features[-1]
        channels = features.shape[1]
        block = self.blocks.pool(power_of_two(channels))
        image = features.new_empty(cells.parts, channels, cells.cells)
        self._all.pool_cells[(*_programs(cells.cells, block), cells.parts)](
            moment, rings.newest, rings.node_t, rings.back, features, cells.pixels, cells.ages, image, rings.mask,
            cells.cells, cells.pixels.shape[1], channels, CELLS=block, CHANNELS=power_of_two(channels),
        )  # fmt: skip
        return image

    def count_cells(self, moment: Tensor, rings: Rings, cells: CellMap) -> Tensor:
        """Numbers of nodes, int32 ``[parts, 2, cells]``."""
        image = rings.pixel.new_empty(cells.parts, 2, cells.cells)
        self._all.count_cells[(*_programs(cells.cells, self.blocks.count), cells.parts)](
            moment, rings.newest, rings.node_t, rings.back, rings.features[0], cells.pixels, cells.ages, image,
            rings.mask, cells.cells, cells.pixels.shape[1], CELLS=self.blocks.count,
        )  # fmt: skip
        return image

    def convolve_image(
        self, image: Tensor, weight: Tensor, side: tuple[int, int], bias: Tensor | None, skip: Tensor | None,
        out: Tensor, stride: tuple[int, int], padding: tuple[int, int], *, active: bool,
    ) -> None:  # fmt: skip
        """A convolution of one image; ``skip`` and ``out`` have their channels last."""
        channels, rows, columns = image.shape[1:]
        outputs, out_columns = out.shape[1], out.shape[3]
        pixels = out.shape[2] * out_columns
        block_pixels, block_outputs, terms = self.blocks.image(pixels, outputs)
        self._all.convolve_image[(*_programs(pixels, block_pixels), *_programs(outputs, block_outputs))](
            image, weight, weight if bias is None else bias, out if skip is None else skip, out, channels, rows,
            columns, outputs, out_columns, pixels, *image.stride()[1:], *stride, *padding, SIDE_ROWS=side[0],
            SIDE_COLUMNS=side[1], PIXELS=block_pixels, OUTPUTS=block_outputs, TERMS=terms, HAS_BIAS=bias is not None,
            HAS_SKIP=skip is not None, ACTIVE=active, num_warps=_IMAGE_WARPS, num_stages=_IMAGE_STAGES,
        )  # fmt: skip


def _wait(read: np.ndarray, device: torch.device, turn: int) -> None:
    """Wait until a turn has been read, see :class:`Upload`. Without a device, whoever reads has done so."""
    if device.type != "cuda" or read.item(0) >= turn:
        return
    until = perf_counter() + _PATIENCE
    while read.item(0) < turn:
        if perf_counter() > until:
            torch.cuda.current_stream(device).synchronize()
            if read.item(0) < turn:  # it was launched on another stream
                torch.cuda.synchronize(device)
            return
        sleep(0)  # others may run


def _keep_until_read(buffers: list[Tensor], read: Tensor, turns: list[int], wait: Callable[[int], None]) -> None:
    """Wait until the device has read all buffers, which are held by this call, as is where it says so."""
    wait(max(turns))


def _programs(count: int, block: int) -> tuple[int]:
    return (-(-count // block),)
