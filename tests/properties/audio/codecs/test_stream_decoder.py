"""Any container, however it is cut: the samples that FFmpeg finds in the whole file. Damage costs its surroundings."""

import random
import re
import tracemalloc
from functools import cache
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from tests.support.audio_strategies import mutate
from tests.support.webm_ogg import RATE, cluster, decode, encode, opus_packets, simple_block, sliced, webm_head
from transcriber.audio.codecs.opus import MAX_PACKET_FRAMES, RecordingStarted, Unreadable
from transcriber.audio.codecs.stream_decoder import PIECE_FRAMES, DecodedPiece, Encoding, StreamDecoder, parse_encoding
from transcriber.audio.format import AudioFormat
from transcriber.audio.headers import AudioHeaders
from transcriber.audio.session import Gap, Silence, Window
from transcriber.audio.stream import Started, Stream
from transcriber.audio.window_policy import WindowPolicy
from transcriber.testing.speech import load_speech

MS = RATE // 1000
PRE_SKIP = 312
LARGEST_PACKET = 700
CONVERGED = RATE // 5
"""Frames after a hole in which a decoder may still sound otherwise than one that decoded all."""

CONTAINERS: dict[str, tuple[str, dict[str, Any]]] = {
    "webm": ("webm", {}),
    "webm, live": ("webm", {"live": 1}),
    "webm, short clusters": ("webm", {"cluster_time_limit": 300, "live": 1}),
    "webm, 60 ms packets": ("webm", {"frame_ms": 60}),
    "webm, 2.5 ms packets": ("webm", {"frame_ms": 2.5, "bit_rate": 96_000}),
    "ogg": ("ogg", {}),
    "ogg, a packet a page": ("ogg", {"page_duration": 20_000}),
    "ogg, 60 ms packets": ("ogg", {"frame_ms": 60, "page_duration": 200_000}),
}


@cache
def speech(seconds=4):
    return load_speech()[0].pcm[: seconds * RATE * 2]


@cache
def recording(name, channels=1):
    """The bytes of a container, and its samples."""
    container, options = CONTAINERS[name]
    samples = np.frombuffer(speech(), "<i2")
    if channels == 2:
        samples = np.stack([samples, np.roll(samples, 9_000)], axis=1).ravel()
    data = encode(samples, container, channels=channels, **options)
    return data, decode(data)


def encoding_of(name):
    return Encoding(name.partition(",")[0])


def listen(encoding, chunks, lost=()):
    """Everything that comes out; ``lost``: numbers of chunks before which something was lost."""
    stream = StreamDecoder(encoding, max_hole_s=600)
    found: list[Any] = [one for n, chunk in enumerate(chunks) for one in stream.feed(chunk, lost=n in lost)]
    return found + list(stream.finish())


@cache
def origin(name):
    """The place of the first sample: what is skipped counts in both containers."""
    return listen(encoding_of(name), [recording(name)[0]])[0].frame


def spread(found, like, name):
    """Samples at their places, as an array like ``like``, and where there are some."""
    samples, known = np.zeros_like(like), np.zeros(len(like), bool)
    for piece in found:
        if isinstance(piece, DecodedPiece):
            data = np.frombuffer(piece.data, "<i2").reshape(-1, piece.format.channels)
            start = piece.frame - origin(name)
            assert 0 <= start <= len(like) - len(data)
            samples[start : start + len(data)] = data
            known[start : start + len(data)] = True
    return samples, known


def places(found):
    return [
        (piece.frame, len(piece.data) // piece.format.frame_bytes) for piece in found if isinstance(piece, DecodedPiece)
    ]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", CONTAINERS)
def test_a_whole_recording_has_the_samples_that_ffmpeg_finds(name, channels):
    data, expected = recording(name, channels)

    found = listen(encoding_of(name), [data])

    assert all(isinstance(one, DecodedPiece) for one in found)
    samples = np.concatenate([np.frombuffer(piece.data, "<i2").reshape(-1, channels) for piece in found])
    assert np.array_equal(samples, expected)
    assert np.corrcoef(samples[:, 0], np.frombuffer(speech(), "<i2")[: len(samples)])[0, 1] > 0.8
    starts = places(found)
    assert all(frame + count == after for (frame, count), (after, _) in pairwise(starts))
    assert max(count for _, count in starts) <= PIECE_FRAMES


@settings(deadline=None, max_examples=40)
@given(name=st.sampled_from(sorted(CONTAINERS)), sizes=st.lists(st.integers(1, 4_000), min_size=1, max_size=8))
def test_however_it_is_cut_it_is_the_same(name, sizes):
    data, expected = recording(name)

    found = listen(encoding_of(name), sliced(data, sizes))

    samples, known = spread(found, expected, name)
    assert all(isinstance(one, DecodedPiece) for one in found)
    assert known.all()
    assert np.array_equal(samples, expected)


DAMAGED = ["webm", "webm, short clusters", "webm, 60 ms packets", "ogg, a packet a page"]
DAMAGES = ["noise", "zeros", "longer", "half", "flipped", "lost", "reported lost"]


def damaged(chunk, how, rng):
    match how:
        case "noise":
            return rng.randbytes(len(chunk))
        case "zeros":
            return bytes(len(chunk))
        case "longer":
            return rng.randbytes(2 * len(chunk))
        case "half":
            return chunk[: len(chunk) // 2]
        case "flipped":
            flipped = bytearray(chunk)
            for _ in range(10):
                flipped[rng.randrange(len(chunk))] ^= 1 << rng.randrange(8)
            # The stamp of a cluster is believed: nothing shows that it is wrong.
            for found in re.finditer(rb"\x1f\x43\xb6\x75", chunk):
                flipped[found.start() : found.start() + 24] = chunk[found.start() : found.start() + 24]
            return bytes(flipped)
    return b""


@settings(deadline=None, max_examples=30)
@given(
    name=st.sampled_from(DAMAGED),
    how=st.sampled_from(DAMAGES),
    size=st.integers(200, 2_000),
    at=st.floats(0, 1),
    seed=st.integers(0, 2**16),
)
@example(name="webm", how="flipped", size=417, at=0.375, seed=38426)  # 10 ms of a packet are lost without a sign
@example(name="webm, 60 ms packets", how="noise", size=285, at=0.53125, seed=12270)  # noise like a cluster's timestamp
@example(name="webm", how="flipped", size=697, at=0.0, seed=697)  # a wild time, and then a block that is lost
def test_a_damaged_chunk_costs_its_surroundings(name, how, size, at, seed):
    data, expected = recording(name)
    head = data.index(b"\x1f\x43\xb6\x75") if name.startswith("webm") else 400
    chunks = [data[:head], *sliced(data[head:], [size])]
    number = 2 + round(at * (len(chunks) - 4))
    chunks[number] = damaged(chunks[number], how, random.Random(seed))

    found = listen(encoding_of(name), chunks, {number + 1} if how == "reported lost" else ())

    samples, known = spread_loosely(found, expected, name)
    wrong = ~known | (np.abs(samples.astype(int) - expected) > 600).any(axis=1)
    # In frames: the chunk, a packet on either side, what the decoder needs, and a cluster whose stamp is damaged or lost.
    chunk = size * len(expected) / len(data)
    cluster = 0.3 * RATE if "short" in name else 0
    assert wrong.sum() <= 3 * chunk + cluster + 4 * MAX_PACKET_FRAMES + CONVERGED
    if how == "reported lost":
        assert not any(isinstance(one, Unreadable) for one in found)
    elif how in {"noise", "zeros", "longer"} and size > LARGEST_PACKET:  # noise in a packet of WebM is noise to hear
        assert any(isinstance(one, Unreadable) for one in found)


_NEAR = range(-2 * MS, 2 * MS, 4)
# Damage without a trace may shift what follows by less than is taken for a hole.
_BESIDE = range(-50 * MS, 50 * MS, 4)


def spread_loosely(found, like, name):
    """As ``spread``; stamps in milliseconds, or less than is taken for a hole, may put a piece beside its place."""
    samples, known = np.zeros_like(like), np.zeros(len(like), bool)
    for piece in found:
        if isinstance(piece, DecodedPiece):
            data = np.frombuffer(piece.data, "<i2").reshape(-1, piece.format.channels)
            start = min(max(0, piece.frame - origin(name)), len(like))
            best = min(_NEAR, key=lambda off: _error(like, data, start + off))
            if _error(like, data, start + best) > 100:
                best = min(_BESIDE, key=lambda off: _error(like, data, start + off))
            start = max(0, start + best)
            end = min(len(like), start + len(data))
            samples[start:end] = data[: end - start]
            known[start:end] = True
    return samples, known


def _error(like, data, start):
    if start < 0 or start + len(data) > len(like):
        return float("inf")
    return float(np.abs(like[start : start + len(data)].astype(int) - data)[len(data) // 2 :].mean())


@pytest.mark.parametrize("name", ["webm", "ogg, a packet a page"])
def test_what_is_lost_shows_as_a_jump_of_its_length(name):
    data, expected = recording(name)
    chunks = sliced(data, [997])

    found = listen(encoding_of(name), [*chunks[:6], *chunks[8:]])

    starts = places(found)
    holes = [after - frame - count for (frame, count), (after, _) in pairwise(starts)]
    (hole,) = [hole for hole in holes if hole]
    assert sum(count for _, count in starts) + hole == pytest.approx(len(expected), abs=MS)
    assert hole == pytest.approx(2 * 997 * len(expected) / len(data), abs=4 * 20 * MS)
    assert sum(isinstance(one, Unreadable) for one in found) == 1


@pytest.mark.parametrize("at_ms", [25_000, 20_000, 300, -30_000])
def test_a_lone_time_that_jumps_is_not_believed(at_ms):
    packets = opus_packets(speech())[:100]
    times = [20 * number for number in range(100)]
    times[50] = at_ms
    lone = [simple_block(packet, time) for packet, time in zip(packets, times, strict=True)]

    found = listen(Encoding.WEBM, [webm_head() + cluster(0, *lone)])

    assert sum(count for _, count in places(found)) == 96_000 - PRE_SKIP
    assert all(frame + count == after for (frame, count), (after, _) in pairwise(places(found)))


def test_a_time_that_jumps_is_not_believed_where_those_after_it_are_not_known():
    """Whatever damaged the stream there may have damaged the time, too."""
    packets = opus_packets(speech())[:60]
    first = [simple_block(packet, 20 * number) for number, packet in enumerate(packets[:50])]
    behind = [simple_block(packet, 20 * number) for number, packet in enumerate(packets[51:], 1)]  # of a later cluster

    found = listen(
        Encoding.WEBM,
        [webm_head() + cluster(0, *first, simple_block(packets[50], 27_000)), b"".join(behind)],
        lost={1},
    )

    assert sum(count for _, count in places(found)) == 60 * 960 - PRE_SKIP
    assert all(frame + count == after for (frame, count), (after, _) in pairwise(places(found)))


@pytest.mark.parametrize("name", ["webm", "webm, short clusters", "ogg", "ogg, a packet a page"])
def test_decoding_from_the_middle_gives_the_rest(name):
    data, expected = recording(name)

    found = listen(encoding_of(name), sliced(data[len(data) // 3 :], [700]))

    heard = sum(count for _, count in places(found))
    assert len(expected) * 2 / 3 - 1.3 * RATE < heard <= len(expected) * 2 / 3 + 0.2 * RATE
    last = np.frombuffer(b"".join(one.data for one in found if isinstance(one, DecodedPiece)), "<i2")[-RATE:]
    offsets = range(-RATE // 50, RATE // 50, 8)
    tail = expected[:, 0]
    assert max(np.corrcoef(last[2_000:-2_000], tail[len(tail) - RATE + 2_000 + o :][: RATE - 4_000])[0, 1]
               for o in offsets if o <= 2_000) > 0.95  # fmt: skip


@pytest.mark.parametrize("name", ["webm", "ogg"])
def test_a_recorder_that_is_started_again_begins_another_recording(name):
    data, expected = recording(name)

    found = listen(encoding_of(name), sliced(data + data, [811]))

    (second,) = [number for number, one in enumerate(found) if isinstance(one, RecordingStarted)]
    for part in (found[:second], found[second + 1 :]):
        samples, known = spread(part, expected, name)
        assert known.all()
        assert np.array_equal(samples, expected)


@settings(deadline=None, max_examples=200)
@given(
    encoding=st.sampled_from(list(Encoding)),
    chunks=st.lists(st.binary(max_size=200), max_size=20),
    lost=st.sets(st.integers(0, 20)),
)
def test_arbitrary_bytes_are_no_sound_but_harm_nobody(encoding, chunks, lost):
    found = listen(encoding, chunks, lost)

    frames = sum(count for _, count in places(found))
    assert frames <= MAX_PACKET_FRAMES * sum(map(len, chunks))
    assert all(isinstance(one, DecodedPiece | Unreadable | RecordingStarted) for one in found)


@settings(deadline=None, max_examples=80)
@given(name=st.sampled_from(sorted(CONTAINERS)), data=st.data())
def test_whatever_is_mutated_nothing_raises_and_little_is_kept(name, data):
    good = bytearray(recording(name)[0][:6_000])
    mutate(good, data)
    stream = StreamDecoder(encoding_of(name), max_hole_s=600)
    total = 0
    for chunk in sliced(bytes(good), data.draw(st.lists(st.integers(1, 900), min_size=1, max_size=5))):
        for one in stream.feed(chunk):
            total += len(one.data) if isinstance(one, DecodedPiece) else 0
        assert stream._container
        assert len(stream._container._buffer) <= 2**16 + 2**14
    list(stream.finish())
    assert total <= len(good) * MAX_PACKET_FRAMES * 4


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(["webm, short clusters", "webm, 60 ms packets", "ogg, a packet a page"]),
    size=st.integers(50, 1_500),
    changes=st.lists(
        st.tuples(st.sampled_from(["twice", "never", "late", "noise", "again"]), st.floats(0, 1)), max_size=6
    ),
    lost=st.sets(st.integers(0, 100)),
)
def test_whatever_comes_twice_late_or_never_the_sessions_are_tiled(name, size, changes, lost):
    chunks = sliced(recording(name)[0], [size])
    whole = list(chunks)
    for change, where in changes:
        at = round(where * (len(chunks) - 1))
        match change:
            case "twice":
                chunks.insert(at, chunks[at])
            case "never":
                chunks[at] = b""
            case "late":
                chunks.append(chunks.pop(at))
            case "noise":
                chunks[at] = random.Random(at).randbytes(len(chunks[at]))
            case "again":
                chunks[at:at] = whole[:10]
    stream = Stream(AudioFormat(), WindowPolicy(1.0), None, max_hole_s=600, new_id=str)
    events: list[Any] = []
    frames = 0
    for one in listen(encoding_of(name), chunks, lost):
        if isinstance(one, DecodedPiece):
            events += stream.feed(one.data, AudioHeaders(content_type=one.format.content_type, offset=one.frame))
            frames += len(one.data) // one.format.frame_bytes
        elif isinstance(one, RecordingStarted):
            events += stream.end()
    events += stream.end()

    sessions = [event.session for event in events if isinstance(event, Started)]
    for session in sessions:
        # What fills a hole may be all of a window, which then is silence.
        parts = [event for event in events if isinstance(event, Window | Silence | Gap) and event.session is session]
        parts = [part for part in parts if not (isinstance(part, Gap) and part.bridged)]
        ends = [0, *accumulate(part.frames for part in parts)]
        assert [*(part.start_frame for part in parts), session.clock] == ends
    assert sum(session.received + session.overlap for session in sessions) == frames


@pytest.mark.parametrize("encoding", [Encoding.WEBM, Encoding.OGG])
@pytest.mark.parametrize(
    "piece",
    [
        bytes(65_536),
        b"\xff" * 65_536,
        pytest.param(b"OggS\0\0" * 10_000, marks=pytest.mark.long),
        pytest.param(b"\xa3" * 65_536, marks=pytest.mark.long),
        b"\xa3\x40\x70\x81" * 16_384,
        b"\x1f\x43\xb6\x75\x01\xff\xff\xff\xff\xff\xff\xff" * 5_000,
        b"\xec\x01\x00\x00\x00\x00\xff\xff\xff" * 7_000,
        random.Random(1).randbytes(65_536),
    ],
)
def test_megabytes_of_nonsense_take_no_memory(encoding, piece):
    stream = StreamDecoder(encoding, max_hole_s=600)
    list(stream.feed(recording(str(encoding))[0][:3_000]))
    tracemalloc.start()

    for _ in range(36):  # all of them together are more than may be kept
        for _ in stream.feed(piece):
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 2**21


def test_a_payload_that_is_broken_at_every_byte_is_reported_once():
    """Each report is handled on the event loop."""
    stream = StreamDecoder(Encoding.WEBM, max_hole_s=600)
    list(stream.feed(webm_head() + cluster(0)))

    found = list(stream.feed(b"\xa3\x84\x81\0\0\x80\xa3\xff" * 10_000))

    assert [type(one) for one in found] == [Unreadable]


def test_bare_packets_are_decoded_each_at_its_place():
    packets = opus_packets(speech())
    stream = StreamDecoder(Encoding.OPUS, max_hole_s=600)

    found: list[Any] = [one for n, packet in enumerate(packets) for one in stream.feed(packet, offset=960 * n)]

    assert [piece.frame for piece in found] == [960 * n for n in range(len(packets))]
    samples = np.frombuffer(b"".join(piece.data for piece in found), "<i2")
    expected = recording("ogg")[1][:, 0]
    assert np.array_equal(samples[PRE_SKIP:][: len(expected)], expected)


def test_a_bare_packet_that_is_none_costs_itself():
    packets = opus_packets(speech())
    stream = StreamDecoder(Encoding.OPUS, max_hole_s=600)

    found: list[Any] = [one for packet in [*packets[:20], b"\xff\xff", b"\x03\x00", bytes(2_000), *packets[20:]]
             for one in stream.feed(packet)]  # fmt: skip

    assert [isinstance(one, Unreadable) for one in found] == [False] * 20 + [True] * 3 + [False] * (len(packets) - 20)
    assert all(piece.frame is None for piece in found if isinstance(piece, DecodedPiece))


def test_bare_stereo_packets_have_two_channels():
    packets = opus_packets(np.repeat(np.frombuffer(speech(1), "<i2"), 2), channels=2, frame_ms=10)
    stereo = next(n for n, packet in enumerate(packets) if packet[0] & 4)
    stream = StreamDecoder(Encoding.OPUS, max_hole_s=600)

    found: list[Any] = [one for packet in packets[stereo:] for one in stream.feed(packet)]

    assert {piece.format.channels for piece in found} == {2}
    assert {len(piece.data) for piece in found} == {480 * 4}


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("audio/webm", Encoding.WEBM),
        ("audio/webm;codecs=opus", Encoding.WEBM),
        ('Audio/WebM; codecs="opus"', Encoding.WEBM),
        ("video/webm;codecs=vp8,opus", Encoding.WEBM),
        ("audio/ogg; codecs=opus", Encoding.OGG),
        ("audio/opus", Encoding.OPUS),
        ("audio/x-raw;format=S16LE", None),
        ("audio/mpeg", Encoding.MPEG),
        ("audio/mp4;codecs=mp4a.40.2", Encoding.MP4),
        ("audio/aac", Encoding.AAC),
        ("audio/flac", None),
    ],
)
def test_the_content_type_says_what_it_is(content_type, encoding):
    assert parse_encoding(content_type) is encoding
