# SPDX-License-Identifier: Apache-2.0
"""Events: arrays, packet decoders and encoder, recordings, filters. Simulated scenes are in ``events.simulation``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegnn_core.events.array import EVENT_DTYPE, EventFormatError, EventStream, check_events, make_events
from aegnn_core.events.decoders import TRIGGER_DTYPE, Decoder, DecoderCounts, make_decoder
from aegnn_core.events.downsampling import DOWNSAMPLING, Downsampler, integrate, integration_state, project
from aegnn_core.events.evt3_encoder import Evt3EncoderState, encode_evt3
from aegnn_core.events.filters import (
    every_nth,
    hot_pixels,
    refractory_period,
    refractory_state,
    region_of_interest,
    remove_pixels,
    rescale,
)
from aegnn_core.events.letterbox import Letterbox
from aegnn_core.events.time_order import MAX_DISORDER_US, TimeJumpError, in_time_order
from aegnn_core.lazy_names import lazy_names

if TYPE_CHECKING:
    from aegnn_core.events.files import read_events
    from aegnn_core.events.recorded_packet import RecordedPacket
    from aegnn_core.events.rosbag import event_packets, read_event_packets, write_event_bag

__all__ = [
    "DOWNSAMPLING",
    "EVENT_DTYPE",
    "MAX_DISORDER_US",
    "TRIGGER_DTYPE",
    "Decoder",
    "DecoderCounts",
    "Downsampler",
    "EventFormatError",
    "EventStream",
    "Evt3EncoderState",
    "Letterbox",
    "RecordedPacket",
    "TimeJumpError",
    "check_events",
    "encode_evt3",
    "event_packets",
    "every_nth",
    "hot_pixels",
    "in_time_order",
    "integrate",
    "integration_state",
    "make_decoder",
    "make_events",
    "project",
    "read_event_packets",
    "read_events",
    "refractory_period",
    "refractory_state",
    "region_of_interest",
    "remove_pixels",
    "rescale",
    "write_event_bag",
]

#: Where the names are defined that need packages for recordings and bags, which a live model does without.
_HOMES = {
    "read_events": "files",
    "RecordedPacket": "recorded_packet",
    "event_packets": "rosbag",
    "read_event_packets": "rosbag",
    "write_event_bag": "rosbag",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, renamed={"EventPacket": "RecordedPacket"})
