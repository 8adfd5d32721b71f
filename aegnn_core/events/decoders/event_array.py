# SPDX-License-Identifier: Apache-2.0
"""The events of ``dvs_msgs/EventArray`` messages, which reach decoders as packets of an encoding of their own."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from aegnn_core.events.decoders.decoder import NO_TRIGGERS, Decoder
from aegnn_core.events.event_array_topics import CDR_EVENT, array_events

__all__ = ["EventArrayDecoder"]


class EventArrayDecoder(Decoder):
    """event_array: the words of :class:`aegnn_core.events.event_array_topics.EventArray`; nothing is carried on."""

    encoding: ClassVar[str] = "event_array"
    word: ClassVar[np.dtype] = CDR_EVENT

    def _decode_words(self, words: np.ndarray, time_base: int) -> tuple[np.ndarray, np.ndarray, int, int, int]:
        inside = (words["x"] < self.width) & (words["y"] < self.height)
        return array_events(words[inside]), NO_TRIGGERS, 0, int(np.count_nonzero(~inside)), 0
