# SPDX-License-Identifier: Apache-2.0
"""Pictures as a video file: GIF, or MP4 where PyAV is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from aegnn_core.extras import missing_package

__all__ = ["VIDEO_ENDINGS", "write_video"]

#: Events have few colours.
_GIF_COLORS = 64
#: Fewer pictures per second make a GIF's delay, in hundredths of a second, larger than its 16 bits.
_LEAST_FPS = 0.01


def _write_gif(path: Path, pictures: Iterator[np.ndarray], fps: float) -> None:
    images = [Image.fromarray(picture).quantize(_GIF_COLORS, dither=Image.Dither.NONE) for picture in pictures]
    ends = [round(number * 100 / fps) for number in range(len(images) + 1)]  # in steps of 10 ms, on the whole in time
    durations = [10 * max(end - begin, 1) for begin, end in pairwise(ends)]
    images[0].save(path, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)


def _write_mp4(path: Path, pictures: Iterator[np.ndarray], fps: float) -> None:
    try:
        import av
    except ModuleNotFoundError as error:
        raise ValueError(f"videos of the kind .mp4 need PyAV, but {missing_package('av')}; or write a .gif") from error
    first = next(pictures)
    # The encoder's colours are of 2 x 2 px.
    height, width = (side + side % 2 for side in first.shape[:2])
    with av.open(str(path), "w", format="mp4") as file:
        stream = file.add_stream("h264", rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in chain([first], pictures):
            padded = np.pad(picture, ((0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0)), "edge")
            file.mux(stream.encode(av.VideoFrame.from_ndarray(padded, "rgb24")))
        file.mux(stream.encode())


_WRITERS: dict[str, Callable[[Path, Iterator[np.ndarray], float], None]] = {".gif": _write_gif, ".mp4": _write_mp4}
#: Of the files that can be written.
VIDEO_ENDINGS = tuple(_WRITERS)


def write_video(path: str | Path, pictures: Iterable[np.ndarray], fps: float) -> int:
    """Write pictures as a video, through a temporary file, so that an interruption leaves an earlier one whole.

    Args:
        path: ends in one of :data:`VIDEO_ENDINGS`.
        pictures: uint8 RGB arrays ``[H, W, 3]`` of one size, at least one.
        fps: pictures per second, at least 0.01; GIF has steps of 10 ms.

    Returns:
        The number of pictures.

    Raises:
        ValueError: another ending, fewer pictures per second, or PyAV is missing for an MP4.
    """
    path = Path(path)
    if path.suffix not in _WRITERS:
        raise ValueError(f"{path}: expected a video's name that ends in {' or '.join(VIDEO_ENDINGS)}")
    if not fps >= _LEAST_FPS:
        raise ValueError(f"{path}: a video of {fps:g} pictures per second, expected at least {_LEAST_FPS}")
    count = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal count
        for picture in pictures:
            count += 1
            yield picture

    part = path.with_name(path.name + ".part")
    iterator = counted()
    first = next(iterator, None)
    if first is None:
        raise ValueError(f"{path}: there is no picture to write")
    try:
        _WRITERS[path.suffix](part, chain([first], iterator), fps)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count
