# SPDX-License-Identifier: Apache-2.0
"""Decoders: hand-made words, plain Python twins on random words, splits, flaws, and three real bags."""

from __future__ import annotations

import array
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aegnn_core.events import EVENT_DTYPE, EventFormatError, make_decoder, read_event_packets
from aegnn_core.events.decoders import PACKET_DECODERS, Evt2Decoder, Evt3Decoder
from aegnn_core.events.decoders import decoder as decoder_module

MAX_HIGH = 4095


def packed(*words: int, kind: str = "<u2") -> bytes:
    return np.array(words, kind).tobytes()


def evt3_time(t: int) -> tuple[int, int]:
    return 0x8000 | (t >> 12) & 0xFFF, 0x6000 | t & 0xFFF


def rows(events: np.ndarray) -> list[tuple[int, int, int, int]]:
    return [tuple(int(v) for v in event) for event in events]


# --- twins: one loop each, written from the format's table ------------------------------------------------------------


def evt3_by_hand(words, width, height):
    """Events, unknown words, events outside and events without time or address of EVT3 words."""
    found, unknown, outside, unplaced = [], 0, 0, 0
    high = low = y = base = polarity = None
    doubt = False
    for word in map(int, words):
        code, low_bits = word >> 12, word & 0xFFF
        pixels = []
        if code == 0:
            y = word & 0x7FF
        elif code == 2:
            pixels = [(word & 0x7FF, word >> 11 & 1)]
        elif code == 3:
            base, polarity = word & 0x7FF, word >> 11 & 1
        elif code in (4, 5):
            size = 12 if code == 4 else 8
            pixels = [(None if base is None else base + i, polarity) for i in range(size) if word >> i & 1]
            base = None if base is None else base + size
        elif code == 6:
            low = low_bits if high is not None and not doubt else None
        elif code == 8:
            step = 0 if high is None else (low_bits - high + 2048) % 4096 - 2048
            if high is None or step >= -10 or doubt:
                high = low_bits if high is None else high + step
                low, doubt = None if doubt else low, False
            else:
                low, doubt, unknown = None, True, unknown + 1
        elif code not in (7, 10, 14, 15) and word != 0x9999:
            unknown += 1
        for x, p in pixels:
            if low is None or y is None or x is None:
                unplaced += 1
            elif x < width and y < height:
                found.append((high * 4096 + low, x, y, p))
            else:
                outside += 1
    return found, unknown, outside, unplaced


def evt2_by_hand(words, width, height):
    found, unknown, outside, unplaced = [], 0, 0, 0
    high, doubt = None, False
    for word in map(int, words):
        code, low_bits = word >> 28, word & 0xFFFFFFF
        x, y = word >> 11 & 0x7FF, word & 0x7FF
        if code == 8:
            step = 0 if high is None else (low_bits - high + 2**27) % 2**28 - 2**27
            if high is None or step >= -10 or doubt:
                high, doubt = low_bits if high is None else high + step, False
            else:
                doubt, unknown = True, unknown + 1
        elif code > 1:
            unknown += code not in (10, 14, 15)
        elif high is None or doubt:
            unplaced += 1
        elif x < width and y < height:
            found.append((high * 64 + (word >> 22 & 63), x, y, code))
        else:
            outside += 1
    return found, unknown, outside, unplaced


def libcaer_cmp_by_hand(words, width, height, time_base):
    found, unknown, outside, unplaced = [], 0, 0, 0
    high = low = wrapped = 0
    x = base = polarity = None
    for word in map(int, words):
        code = word >> 12
        pixels = []
        if code == 0:
            if word & 0xFFF < high:
                wrapped += 2**16 if high < 2**4 else 2**24
            high = word & 0xFFF
        elif code == 1:
            low = word & 0xFFF
        elif code == 2:
            x = word & 0x7FF
        elif code == 3:
            pixels = [(word & 0x7FF, word >> 11 & 1)]
        elif code == 4:
            base, polarity = word & 0x7FF, word >> 11 & 1
        elif code == 5:
            pixels = [(None if base is None else base + i, polarity) for i in range(8) if word >> i & 1]
            base = None if base is None else base + 8
        else:
            unknown += 1
        for y, p in pixels:
            if x is None or y is None:
                unplaced += 1
            elif x < width and y < height:
                found.append(((time_base + 1000 * (wrapped + high * 4096 + low)) // 1000, x, y, p))
            else:
                outside += 1
    return found, unknown, outside, unplaced


def libcaer_by_hand(words, width, height, time_base):
    found, unknown, outside = [], 0, 0
    wrapped = last = 0
    for pixel, time in words.tolist():
        wrapped += 2**31 * (last - time > 2**30)
        last = time
        x, y, p = pixel >> 17, pixel >> 2 & 0x7FFF, pixel >> 1 & 1
        if not pixel & 1:
            unknown += 1
        elif x < width and y < height:
            found.append(((time_base + 1000 * (wrapped + time)) // 1000, x, y, p))
        else:
            outside += 1
    return found, unknown, outside, 0


def mono_by_hand(words, width, height, time_base):
    found, outside = [], 0
    for word in map(int, words):
        x, y = word >> 32 & 0xFFFF, word >> 48 & 0x7FFF
        if x < width and y < height:
            found.append(((time_base + word % 2**32) // 1000, x, y, word >> 63))
        else:
            outside += 1
    return found, 0, outside, 0


def event_array_by_hand(words, width, height, _):
    found, outside = [], 0
    for x, y, sec, nanosec, p in words.tolist():
        if x < width and y < height:
            found.append((sec * 1_000_000 + nanosec // 1000, x, y, int(p > 0)))
        else:
            outside += 1
    return found, 0, outside, 0


TWINS = {
    "evt3": lambda words, width, height, _: evt3_by_hand(words, width, height),
    "libcaer_cmp": libcaer_cmp_by_hand,
    "libcaer": libcaer_by_hand,
    "mono": mono_by_hand,
    "trigger": lambda words, *_: ([], 0, 0, 0),
    "event_array": event_array_by_hand,
}

sides = st.integers(1, 1 << 16)
times = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize("encoding", PACKET_DECODERS)
@given(payload=st.binary(max_size=600), width=sides, height=sides, time_base=times, is_bigendian=st.booleans())
def test_random_bytes_decode_as_the_format_says(encoding, payload, width, height, time_base, is_bigendian):
    decoder = make_decoder(encoding, width, height)
    events = decoder.decode(payload, time_base, is_bigendian)
    trailing = len(payload) % decoder.word.itemsize
    words = np.frombuffer(payload[: len(payload) - trailing], decoder.word.newbyteorder(">" if is_bigendian else "<"))
    found, unknown, outside, unplaced = TWINS[encoding](words, width, height, time_base)
    assert events.dtype == EVENT_DTYPE
    assert rows(events) == found
    counts = decoder.counts
    assert (counts.unknown_words, counts.outside_events, counts.unplaced_events) == (unknown, outside, unplaced)
    assert (counts.events, counts.trailing_bytes) == (len(found), trailing)
    assert counts.malformed == unknown + outside + trailing


@given(payload=st.binary(max_size=600), width=sides, height=sides)
@example(payload=np.array([0x8100_0000, 0, 0x8000_0000, 0, 0x8100_0001, 0], "<u4").tobytes(), width=1, height=1)
@example(payload=np.array([0x8FFF_FFFF, 0, 0x8000_0001, 0, 0x8FFF_FFFB, 0], "<u4").tobytes(), width=1, height=1)
def test_random_evt2_bytes_decode_as_the_format_says(payload, width, height):
    decoder = Evt2Decoder(width, height)
    events = decoder.decode(payload)
    found, unknown, outside, unplaced = evt2_by_hand(np.frombuffer(payload, "<u4", len(payload) // 4), width, height)
    assert rows(events) == found
    counts = decoder.counts
    assert (counts.unknown_words, counts.outside_events, counts.unplaced_events) == (unknown, outside, unplaced)


@pytest.mark.parametrize("encoding", ["evt3", "mono", "trigger"])
@given(payload=st.binary(max_size=600), cuts=st.lists(st.integers(0, 300), max_size=8))
def test_any_split_into_packets_gives_the_same_events(encoding, payload, cuts):
    whole = make_decoder(encoding, 640, 480)
    split = make_decoder(encoding, 640, 480)
    word = whole.word.itemsize
    payload = payload[: len(payload) // word * word]
    borders = sorted({0, len(payload), *(min(cut * word, len(payload)) for cut in cuts)})
    packets = [payload[a:b] for a, b in pairwise(borders)]
    expected, expected_triggers = whole.decode(payload, 5_000), whole.triggers
    events, triggers = [], []
    for packet in packets:
        events += rows(split.decode(packet, 5_000))
        triggers += split.triggers.tolist()
    assert events == rows(expected)
    assert triggers == expected_triggers.tolist()
    assert split.counts == whole.counts


@given(
    payload=st.binary(max_size=300), cut=st.integers(0, 150), high=st.integers(0, MAX_HIGH), low=st.integers(0, 4095)
)
def test_libcaer_cmp_keeps_addresses_across_packets_that_restate_the_time(payload, cut, high, low):
    clock = packed(high, 0x1000 | low)
    # Time words are left out, since every packet's time starts anew.
    words = np.frombuffer(payload, "<u2", len(payload) // 2)
    words = words[words >> 12 >= 2]
    whole, split = make_decoder("libcaer_cmp", 640, 480), make_decoder("libcaer_cmp", 640, 480)
    expected = whole.decode(clock + words.tobytes())
    first = split.decode(clock + words[:cut].tobytes())
    second = split.decode(clock + words[cut:].tobytes())
    assert rows(expected) == rows(first) + rows(second)


# --- words by hand ----------------------------------------------------------------------------------------------------


def test_evt3_singles_vectors_and_triggers():
    decoder = make_decoder("evt3", 640, 480)
    events = decoder.decode(
        packed(
            *evt3_time(5000),
            0x0007,  # row 7
            0x2003,  # x 3 OFF
            0x2803,  # x 3 ON
            0x3864,  # vectors from x 100, ON
            0x4801,  # x 100 and 111
            0x5080,  # x 112 + 7
            0xA301,  # trigger 3, rising
            0xE000,
            0x7000,
            0xF000,
        )
    )
    assert rows(events) == [
        (5000, 3, 7, 0),
        (5000, 3, 7, 1),
        (5000, 100, 7, 1),
        (5000, 111, 7, 1),
        (5000, 119, 7, 1),
    ]
    assert decoder.triggers.tolist() == [(5000, 3, 1)]
    assert decoder.counts.malformed == 0
    assert decoder.counts.describe_malformed() == ""


def test_evt3_emits_nothing_before_high_time_then_low_time():
    decoder = Evt3Decoder(640, 480)
    event = (0x0001, 0x2002)
    assert rows(decoder.decode(packed(*event, 0x6005, *event, 0xA001))) == []
    assert rows(decoder.decode(packed(0x8000, *event))) == []
    assert rows(decoder.decode(packed(0x6009, *event))) == [(9, 2, 1, 0)]
    assert decoder.counts.unplaced_events == 3
    assert decoder.counts.malformed == 0
    assert decoder.counts.triggers == 0


def test_evt3_leaves_out_events_whose_row_or_base_was_not_stated():
    decoder = Evt3Decoder(640, 480)
    assert rows(decoder.decode(packed(*evt3_time(1), 0x2002, 0x0001, 0x400F, 0x2002))) == [(1, 2, 1, 0)]
    assert decoder.counts.unplaced_events == 5


def test_evt3_counts_wraps_and_takes_small_steps_back_for_jitter():
    decoder = Evt3Decoder(10, 10)
    at = lambda high, low: (0x8000 | high, 0x6000 | low, 0x0001, 0x2001)  # noqa: E731
    steps = [(4090, 3), (4080, 0), (4095, 1), (0, 7), (4, 0), (0, 0), (4095, 0), (3, 0)]
    times = decoder.decode(packed(*(word for step in steps for word in at(*step))))["t"].tolist()
    turn = 1 << 24
    assert times == [
        (4090 << 12) + 3,
        4080 << 12,  # ten steps back
        (4095 << 12) + 1,
        turn + 7,
        turn + (4 << 12),
        turn,
        4095 << 12,  # jitter across the wrap
        turn + (3 << 12),
    ]


def test_evt3_reset_forgets_times_and_addresses_and_keeps_the_counts():
    decoder = Evt3Decoder(10, 10)
    decoder.decode(packed(*evt3_time(1 << 20), 0x0001, 0x2001))
    decoder.reset()
    assert len(decoder.decode(packed(0x2001))) == 0
    assert len(decoder.decode(packed(*evt3_time(77), 0x2001))) == 0
    assert rows(decoder.decode(packed(0x0003, 0x2001))) == [(77, 1, 3, 0)]
    assert (decoder.counts.events, decoder.counts.unplaced_events) == (2, 2)


def test_libcaer_cmp_words():
    decoder = make_decoder("libcaer_cmp", 346, 260)
    payload = packed(0x2064, 0x3807, 0x0001, 0x1002, 0x4814, 0x5081, 0x5001, 0x0000, 0x3001, 0x6000)
    assert rows(decoder.decode(payload, time_base=10**15 + 999)) == [
        (10**12, 100, 7, 1),
        (10**12 + 4098, 100, 20, 1),
        (10**12 + 4098, 100, 27, 1),
        (10**12 + 4098, 100, 28, 1),
        (10**12 + (1 << 16) + 2, 100, 1, 0),  # the smaller TIME_HIGH is a wrap of the driver's 4 bits
    ]
    assert decoder.counts.unknown_words == 1
    assert rows(decoder.decode(packed(0x3001), time_base=5000)) == [(5, 100, 1, 0)]


@pytest.mark.parametrize("bits", [4, 12])
@given(
    start=st.integers(0, 2**16 - 1),
    gaps=st.lists(st.integers(0, 15 * 4096), min_size=1, max_size=60),
    part=st.integers(1, 200),
)
def test_libcaer_cmp_messages_of_any_length_keep_their_times(bits, start, gaps, part):
    """libcaer_driver states 4 bits of TIME_HIGH, the format has 12; what cannot be told apart is a longer gap."""
    times, words = np.cumsum([start, *gaps]), [0x2001]
    for t in times.tolist():
        words += [t >> 12 & (1 << bits) - 1, 0x1000 | t & 0xFFF, 0x3002]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(decoder_module, "_PART_WORDS", part)
        events = make_decoder("libcaer_cmp", 10, 10).decode(packed(*words))
    np.testing.assert_array_equal(events["t"], times)


def test_libcaer_cmp_counts_the_wraps_of_all_12_bits_too():
    decoder = make_decoder("libcaer_cmp", 10, 10)
    words = [word for high in (16, 4095, 0, 15, 16, 3) for word in (high, 0x3001)]
    highs = decoder.decode(packed(0x2001, *words))["t"] >> 12
    assert highs.tolist() == [16, 4095, 4096, 4096 + 15, 4096 + 16, 2 * 4096 + 3]


@given(
    start=st.integers(2**31 - 2000, 2**31 + 10) | st.integers(2**32 - 2000, 2**32 + 10),
    gaps=st.lists(st.integers(0, 200), min_size=1, max_size=60),
    cuts=st.lists(st.integers(1, 60), max_size=4),
    part=st.integers(1, 60),
)
def test_libcaer_times_go_on_where_their_31_bits_are_over(start, gaps, cuts, part):
    """A message's time_base has the higher bits of its first event alone, as libcaer_driver makes it."""
    times, decoder, found = np.cumsum([start, *gaps]), make_decoder("libcaer", 10, 10), []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(decoder_module, "_PART_WORDS", part)
        for message in np.split(times, sorted(cuts)):
            words = [word for t in message.tolist() for word in (1 << 17 | 2 << 2 | 1, t % 2**31)]
            time_base = 1000 * (int(message[0]) >> 31 << 31) if len(message) else 0
            found += decoder.decode(packed(*words, kind="<u4"), time_base)["t"].tolist()
    assert found == times.tolist()


def test_libcaer_times_that_step_back_a_little_are_no_wrap():
    pixel = 1 << 17 | 1
    payload = packed(pixel, 2**30, pixel, 0, pixel, 7, pixel, 5, kind="<u4")
    assert make_decoder("libcaer", 10, 10).decode(payload)["t"].tolist() == [2**30, 0, 7, 5]


def test_libcaer_words():
    decoder = make_decoder("libcaer", 346, 260)
    pixel = 345 << 17 | 259 << 2 | 0b11
    payload = packed(pixel, 7, pixel & ~0b10, 2**32 - 1, pixel & ~1, 9, kind="<u4")
    assert rows(decoder.decode(payload, time_base=1_702_306_974_272_224_018)) == [
        (1_702_306_974_272_231, 345, 259, 1),
        (1_702_306_974_272_224 + 2**32 - 1, 345, 259, 0),
    ]
    assert decoder.counts.describe_malformed() == "unknown words: 1"


def test_mono_and_trigger_words_round_nanoseconds_down():
    word = 1 << 63 | 5 << 48 | 300 << 32 | 1_400
    assert rows(make_decoder("mono", 640, 480).decode(packed(word, kind="<u8"), time_base=2_600)) == [(4, 300, 5, 1)]
    trigger = make_decoder("trigger", 640, 480)
    assert len(trigger.decode(packed(1 << 63 | 1_400, 399, kind="<u8"), time_base=2_600)) == 0
    assert trigger.triggers.tolist() == [(4, 0, 1), (2, 0, 0)]
    assert trigger.counts.triggers == 2


@pytest.mark.parametrize(
    ("encoding", "payload", "edge"),
    [
        (
            "evt3",
            packed(*evt3_time(0), 0x0000 | 479, 0x2000 | 639, 0x3000 | 639, 0x4003, 0x2000 | 640),
            (0, 639, 479, 0),
        ),
        ("libcaer_cmp", packed(0x2000 | 639, 0x4000 | 479, 0x5003, 0x3000 | 480, 0x3000 | 479), (0, 639, 479, 0)),
        (
            "libcaer",
            packed(639 << 17 | 479 << 2 | 1, 0, 640 << 17 | 1, 0, 480 << 2 | 1, 0, kind="<u4"),
            (0, 639, 479, 0),
        ),
        ("mono", packed(479 << 48 | 639 << 32, 640 << 32, 480 << 48, kind="<u8"), (0, 639, 479, 0)),
    ],
)
def test_events_outside_the_sensor_are_left_out_and_counted(encoding, payload, edge):
    decoder = make_decoder(encoding, 640, 480)
    events = decoder.decode(payload)
    assert set(rows(events)) == {edge}
    assert decoder.counts.outside_events == 2
    assert decoder.counts.describe_malformed() == "events outside the sensor: 2"


@pytest.mark.parametrize("encoding", PACKET_DECODERS)
def test_a_partial_word_at_the_end_costs_only_itself(encoding):
    decoder = make_decoder(encoding, 640, 480)
    size = decoder.word.itemsize
    whole = np.arange(3 * size, dtype=np.uint8).tobytes()
    expected = make_decoder(encoding, 640, 480)
    assert rows(decoder.decode(whole + b"\x01")) == rows(expected.decode(whole))
    assert decoder.counts.trailing_bytes == 1
    assert "bytes of partial words: 1" in decoder.counts.describe_malformed()


@pytest.mark.parametrize("encoding", PACKET_DECODERS)
def test_an_empty_packet_has_no_events(encoding):
    decoder = make_decoder(encoding, 640, 480)
    assert len(decoder.decode(b"")) == 0
    assert decoder.counts.malformed == 0


def test_payloads_of_every_kind_are_read_alike():
    payload = packed(*evt3_time(1), 0x0001, 0x2001)
    shifted = np.frombuffer(b"\0" + payload, np.uint8)[1:]
    for kind in (payload, bytearray(payload), array.array("B", payload), np.frombuffer(payload, np.uint8), shifted):
        assert rows(make_decoder("evt3", 10, 10).decode(kind)) == [(1, 1, 1, 0)]


def test_decoded_events_belong_to_the_caller():
    decoder = make_decoder("evt3", 10, 10)
    first = decoder.decode(packed(*evt3_time(1), 0x0001, 0x2001))
    decoder.decode(packed(*evt3_time(2), 0x0002, 0x2002))
    assert rows(first) == [(1, 1, 1, 0)]
    first["t"] = 3


def test_unknown_encoding_names_what_is_right():
    with pytest.raises(EventFormatError, match=r"'evt4'.*evt3, libcaer_cmp, libcaer, mono, trigger"):
        make_decoder("evt4", 640, 480)


@pytest.mark.parametrize(("width", "height"), [(0, 480), (640, 0), (-1, 480), (640, 1 << 17)])
def test_a_sensor_without_size_is_refused(width, height):
    with pytest.raises(EventFormatError, match=f"{width} x {height} px"):
        make_decoder("evt3", width, height)


# --- real bags: counts and sums of the format document ----------------------------------------------------------------


def decode_bag(path):
    """The bag's events, packet by packet with the packet, and its decoder."""
    decoder, packets = None, []
    for packet in read_event_packets(path):
        decoder = decoder or make_decoder(packet.encoding, packet.width, packet.height)
        events = decoder.decode(packet.events, packet.time_base, packet.is_bigendian)
        packets.append((packet, events, decoder.triggers))
    return decoder, packets


def polarity_counts(packets):
    return np.bincount(np.concatenate([events["p"] for _, events, _ in packets])).tolist()


def test_real_evt3_bag(shared_data):
    decoder, packets = decode_bag(shared_data / "rosbags" / "evt3_640x480")
    assert len(packets) == 517
    assert polarity_counts(packets) == [218_291, 125_183]
    assert decoder.counts.triggers == 4_157
    assert decoder.counts.malformed == decoder.counts.unplaced_events == 0
    assert next(events["t"][0] for _, events, _ in packets if len(events)) == 7_139_845
    total = sum(int(events["t"].sum()) + int(triggers["t"].sum()) for _, events, triggers in packets)
    assert total == 2_885_601_049_874


def test_real_libcaer_cmp_bag(shared_data):
    decoder, packets = decode_bag(shared_data / "rosbags" / "libcaer_cmp_346x260")
    assert len(packets) == 100
    assert polarity_counts(packets) == [360_223, 211_043]
    assert decoder.counts.malformed == decoder.counts.unplaced_events == 0
    t = np.concatenate([events["t"] for _, events, _ in packets])
    assert t[0] == 1_744_227_144_732_712
    assert (t - t[0]).sum() == 335_555_680_277


def test_real_libcaer_bag(shared_data):
    decoder, packets = decode_bag(shared_data / "rosbags" / "libcaer_640x480")
    assert len(packets) == 201
    assert polarity_counts(packets) == [152_423, 181_908]
    assert decoder.counts.malformed == 0
    assert sum(int(events["x"].sum(dtype=np.int64)) for _, events, _ in packets) == 111_651_612
    assert sum(int(events["y"].sum(dtype=np.int64)) for _, events, _ in packets) == 82_801_007
    # Events carry whole microseconds since time_base: what rounding down took off is the rest of time_base.
    total_ns = sum(
        1000 * int(events["t"].sum()) + packet.time_base % 1000 * len(events) for packet, events, _ in packets
    )
    assert total_ns % 2**64 == 15_762_826_572_202_229_126


@pytest.mark.parametrize("bag", ["evt3_640x480", "libcaer_cmp_346x260", "libcaer_640x480"])
def test_real_cameras_keep_time_order(shared_data, bag):
    _, packets = decode_bag(shared_data / "rosbags" / bag)
    t = np.concatenate([events["t"] for _, events, _ in packets])
    assert (np.diff(t) >= 0).all()
