# SPDX-License-Identifier: Apache-2.0
"""Streaming decoders of event packets, one per encoding, behind one table."""

from __future__ import annotations

from aegnn_core.events.array import EventFormatError
from aegnn_core.events.decoders.decoder import TRIGGER_DTYPE, Decoder, DecoderCounts
from aegnn_core.events.decoders.event_array import EventArrayDecoder
from aegnn_core.events.decoders.evt2 import Evt2Decoder
from aegnn_core.events.decoders.evt3 import Evt3Decoder
from aegnn_core.events.decoders.evt4 import Evt4Decoder
from aegnn_core.events.decoders.evt21 import Evt21Decoder, Evt21LegacyDecoder
from aegnn_core.events.decoders.libcaer import LibcaerDecoder
from aegnn_core.events.decoders.libcaer_cmp import LibcaerCmpDecoder
from aegnn_core.events.decoders.mono import MonoDecoder, TriggerDecoder

__all__ = [
    "PACKET_DECODERS",
    "TRIGGER_DTYPE",
    "Decoder",
    "DecoderCounts",
    "EventArrayDecoder",
    "Evt2Decoder",
    "Evt3Decoder",
    "Evt4Decoder",
    "Evt21Decoder",
    "Evt21LegacyDecoder",
    "make_decoder",
]

#: The decoders of ``event_camera_msgs/EventPacket``, keyed by the message's ``encoding``, and that of event arrays.
PACKET_DECODERS: dict[str, type[Decoder]] = {
    decoder.encoding: decoder
    for decoder in (Evt3Decoder, LibcaerCmpDecoder, LibcaerDecoder, MonoDecoder, TriggerDecoder, EventArrayDecoder)
}


def make_decoder(encoding: str, width: int, height: int) -> Decoder:
    """Make the decoder of one topic's packets; use one per topic, since it carries state from packet to packet.

    Args:
        encoding: ``EventPacket.encoding``.
        width: sensor width [px].
        height: sensor height [px].

    Raises:
        EventFormatError: the encoding is not known, or the sensor has no size.
    """
    if encoding not in PACKET_DECODERS:
        raise EventFormatError(f"packet encoding is {encoding!r}, expected one of {', '.join(PACKET_DECODERS)}")
    return PACKET_DECODERS[encoding](width, height)
