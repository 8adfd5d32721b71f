# SPDX-License-Identifier: Apache-2.0
"""A recording as pictures of some moments, with labels and a model's answers."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from aegnn_core.datasets.labelled_recording import LabelledRecording
from aegnn_core.drawing import EventSurface, class_name, draw_moment
from aegnn_core.evaluation.model_answers import LiveAnswers
from aegnn_core.evaluation.model_on_camera import ModelOnCamera
from aegnn_core.events.label_topics import LABEL_DTYPE, Label
from aegnn_core.nn.checkpoint import TrainedModel
from aegnn_core.nn.model_sensor import MODEL_SENSORS
from aegnn_core.option_types import LONGEST_S

__all__ = ["Frame", "Shown", "draw_frame", "recording_frames"]

#: A label is shown until this long before and after its time, unless another one is nearer [µs].
_LABEL_US = 50_000
#: Small sensors are drawn larger, up to about this width [px].
_PICTURE_WIDTH = 640


@dataclass(frozen=True)
class Frame:
    """One moment.

    Attributes:
        time: since the first event [µs].
        image: the events, uint8 RGB array ``[H, W, 3]`` in the sensor's pixels.
        truth: boxes (``LABEL_DTYPE [N]``); None where nobody knows them.
        true_class: number of the class; None where nobody knows it.
        found: a model's boxes (``DETECTION_DTYPE [N]``); None without a detector.
        scores: a model's score of each class ``[C]``; None without a model for recognition.
    """

    time: int
    image: np.ndarray
    truth: np.ndarray | None = None
    true_class: int | None = None
    found: np.ndarray | None = None
    scores: np.ndarray | None = None


@dataclass(frozen=True)
class Shown:
    """Which moments of a recording are shown, and how.

    Attributes:
        fps: pictures per second of looking at them.
        speed: seconds of the recording per second of looking at it.
        exposure_us: how long an event is to be seen, in the recording's time [µs].
        start_us: where to begin, from the first event [µs].
        duration_us: for how long; None for all the rest [µs].
    """

    fps: float = 25.0
    speed: float = 1.0
    exposure_us: int = 40_000
    start_us: int = 0
    duration_us: int | None = None

    def __post_init__(self) -> None:
        for name in ("fps", "speed", "exposure_us", "duration_us"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} is {value}, expected a positive number")
        if self.start_us < 0:
            raise ValueError(f"start_us is {self.start_us}, expected a number that is not negative")
        if not 1 <= 1e6 * self.speed / self.fps <= 1e6 * LONGEST_S:
            raise ValueError(
                f"{self.fps:g} pictures per second at the speed {self.speed:g} are {self.speed / self.fps:g} s of the"
                f" recording apart, expected 1e-06 to {LONGEST_S:g}"
            )

    @property
    def period_us(self) -> int:
        """The recording's time between two pictures [µs]."""
        return round(1e6 * self.speed / self.fps)

    def moments(self, duration_us: int) -> range:
        """The times from the first event of a recording so long [µs].

        Raises:
            ValueError: it begins behind the recording's end.
        """
        if self.start_us > duration_us:
            raise ValueError(f"start is at {self.start_us / 1e6:g} s, the recording lasts {duration_us / 1e6:g} s")
        stop = duration_us if self.duration_us is None else min(duration_us, self.start_us + self.duration_us)
        return range(self.start_us, max(stop, self.start_us + 1), self.period_us)


def recording_frames(
    recording: LabelledRecording,
    shown: Shown,
    model: TrainedModel | None = None,
    *,
    score_threshold: float = 0.3,
    downsampling: str | None = None,
    model_sensor: str = MODEL_SENSORS[0],
) -> Iterator[Frame]:
    """The pictures of a recording, one whenever the next is asked for.

    Args:
        recording: events with labels or without.
        shown: which moments.
        model: is asked, live, at each of them; None for no answers.
        score_threshold: least score of boxes.
        downsampling, model_sensor: how the model gets the events, see :class:`aegnn_core.evaluation.ModelOnCamera`.

    Raises:
        ValueError: it begins behind the recording's end, or the network does not run on the recording's sensor.
    """
    events, t = recording.stream.events, recording.stream.events["t"]
    first = int(t[0])
    moments = [first + moment for moment in shown.moments(recording.stream.duration)]
    size = (recording.stream.width, recording.stream.height)
    fitted = None if model is None else ModelOnCamera(model, size, downsampling, model_sensor)
    answers = None if fitted is None else LiveAnswers(fitted.model)(fitted.events(events), moments)
    surface, seen = EventSurface(*size), bisect_left(t, moments[0] - shown.exposure_us)
    truth = _Truth(recording.labels, max(_LABEL_US, shown.period_us))
    for moment in moments:
        until = bisect_right(t, moment, seen)
        surface.update(events[seen:until])
        seen = until
        label = truth.at(moment)
        found = scores = None
        if fitted is not None and answers is not None:
            answer = next(answers)
            if fitted.model.task == "detection":
                found = fitted.boxes(answer, score_threshold)
            else:
                scores = fitted.model.network.class_scores(answer)[0].cpu().numpy()
        yield Frame(
            moment - first,
            surface.image(moment, shown.exposure_us),
            None if label is None else label.boxes,
            None if label is None else label.class_id,
            found,
            scores,
        )


class _Truth:
    """The label of the time that is nearest to a moment, and near enough."""

    def __init__(self, labels: Sequence[Label], reach_us: int) -> None:
        self._labels, self._reach_us = labels, reach_us
        self._times = [label.stamp // 1000 for label in labels]
        self._whole = bool(labels) and labels[0].boxes is None  # a class is that of the whole recording

    def at(self, moment: int) -> Label | None:
        """The label at a sensor time [µs], None where none is near."""
        if not self._labels:
            return None
        behind = bisect_left(self._times, moment)
        near = range(max(0, behind - 1), min(len(self._times), behind + 1))
        nearest = min(near, key=lambda n: abs(self._times[n] - moment))
        return self._labels[nearest] if self._whole or abs(self._times[nearest] - moment) <= self._reach_us else None


def draw_frame(frame: Frame, class_names: Sequence[str], labels: Sequence[str] = ()) -> np.ndarray:
    """One picture: events, time, boxes and classes.

    A model's answers are coloured, and true boxes thin and white beside them; without a model, true boxes are coloured.

    Args:
        frame: what to draw.
        class_names: of the true boxes and classes.
        labels: the model's.

    Returns:
        uint8 RGB array ``[H', W', 3]``, the sensor's pixels enlarged by a whole number.
    """
    title = f"{frame.time / 1e6:.2f} s"
    if frame.true_class is not None:
        title += f"  true: {class_name(class_names, frame.true_class)}"
    if frame.scores is not None:
        best = int(frame.scores.argmax())
        title += f"  {class_name(labels, best)} {frame.scores[best]:.2f}"
    answered = frame.found is not None
    boxes = frame.found if answered else frame.truth
    return draw_moment(
        frame.image,
        title,
        labels if answered else class_names,
        boxes=np.empty(0, LABEL_DTYPE) if boxes is None else boxes,
        truth=frame.truth if answered else None,
        scale=max(1, _PICTURE_WIDTH // frame.image.shape[1]),
    )
