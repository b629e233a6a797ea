"""MP4, WebM with samples, ADTS and MP3, however they are cut: the samples that FFmpeg finds in the whole. Damage costs its surroundings."""

import random
import re
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.support.audio_strategies import mutate
from tests.support.encoded_audio import EDITED, SAFARI, as_he_aac, decode, encode
from tests.support.webm_ogg import decode as decode_opus, sliced
from transcriber.audio.codecs.opus import RecordingStarted, Unreadable
from transcriber.audio.codecs.stream_decoder import DecodedPiece, Encoding, StreamDecoder, recognised_type
from transcriber.testing.speech import load_speech

RATE = 48_000
FRAMES = RATE * 3 // 2

FORMATS: dict[str, tuple[Encoding, tuple[str, str], dict[str, Any]]] = {
    "aac": (Encoding.MP4, ("aac", "mp4"), SAFARI),
    "aac, edited": (Encoding.MP4, ("aac", "mp4"), EDITED),
    "aac, stereo": (Encoding.MP4, ("aac", "mp4"), EDITED | {"channels": 2}),
    "aac, absolute": (Encoding.MP4, ("aac", "mp4"), {"movflags": "empty_moov", "frag_duration": "250000"}),
    "he-aac": (Encoding.MP4, ("aac", "mp4"), SAFARI | {"rate": 24_000}),
    "he-aac, stereo": (Encoding.MP4, ("aac", "mp4"), SAFARI | {"rate": 24_000, "channels": 2}),
    "opus": (Encoding.MP4, ("libopus", "mp4"), SAFARI),
    "opus, edited": (Encoding.MP4, ("libopus", "mp4"), EDITED),
    "float": (Encoding.WEBM, ("pcm_f32le", "matroska"), {"live": "1"}),
    "integers": (Encoding.WEBM, ("pcm_s16le", "matroska"), {"live": "1"}),
    "adts": (Encoding.AAC, ("aac", "adts"), {}),
    "mp3": (Encoding.MPEG, ("libmp3lame", "mp3"), {"id3v2_version": "3"}),
    "mp3, 22 kHz": (Encoding.MPEG, ("libmp3lame", "mp3"), {"rate": 22_050}),
}
MP4 = [name for name, (encoding, _, _) in FORMATS.items() if encoding is Encoding.MP4]


@cache
def recording(name):
    """The bytes, and their samples as FFmpeg reads them."""
    _, (codec, container), options = FORMATS[name]
    data = encode(load_speech()[0].pcm[: FRAMES * 2], codec, container, **options)
    if name.startswith("he-aac"):
        data = as_he_aac(data)
    return data, decode_opus(data) if codec == "libopus" else decode(data)


def hear(name, chunks, lost=()):
    stream = StreamDecoder(FORMATS[name][0], max_hole_s=600)
    found: list[Any] = [one for n, chunk in enumerate(chunks) for one in stream.feed(chunk, lost=n in lost)]
    return found + list(stream.finish())


def pieces(found):
    return [one for one in found if isinstance(one, DecodedPiece)]


def samples(found):
    """(frames, channels) in int16."""
    parts = []
    for piece in pieces(found):
        floats = piece.format.sample == "F32LE"
        data = np.frombuffer(piece.data, "<f4" if floats else "<i2")
        data = np.clip(np.rint(data * 2**15), -(2**15), 2**15 - 1).astype(np.int16) if floats else data
        parts.append(data.reshape(-1, piece.format.channels))
    return np.concatenate(parts)


def places(found):
    return [(piece.frame, len(piece.data) // piece.format.frame_bytes) for piece in pieces(found)]


def holes(found):
    return [hole for (frame, count), (after, _) in pairwise(places(found)) if (hole := after - frame - count)]


@pytest.mark.parametrize("name", FORMATS)
def test_a_whole_recording_has_the_samples_that_ffmpeg_finds(name):
    data, expected = recording(name)

    found = hear(name, [data])

    heard = samples(found)
    assert all(isinstance(one, DecodedPiece) for one in found)
    assert not holes(found)
    # MP4 says how much of the last packet is padding, and FFmpeg keeps it.
    assert 0 <= len(expected) - len(heard) < (2_048 if name.startswith("he-aac") else 1_024)
    assert name in MP4 or len(expected) == len(heard)
    assert np.array_equal(heard, expected[: len(heard)])


@pytest.mark.parametrize(("name", "priming"), [("aac", 1_024), ("aac, edited", 0), ("opus, edited", 0)])
def test_frames_are_those_that_the_clock_of_mp4_counts(name, priming):
    """What precedes the recording is left out where the edit list says so."""
    assert len(samples(hear(name, [recording(name)[0]]))) == FRAMES + priming


@settings(deadline=None, max_examples=20)
@given(name=st.sampled_from(sorted(FORMATS)), sizes=st.lists(st.integers(1, 4_000), min_size=1, max_size=8))
def test_however_it_is_cut_it_is_the_same(name, sizes):
    data, _ = recording(name)

    found = hear(name, sliced(data, sizes))

    assert all(isinstance(one, DecodedPiece) for one in found)
    assert not holes(found)
    assert np.array_equal(samples(found), whole(name))


@cache
def whole(name):
    return samples(hear(name, [recording(name)[0]]))


def fragments(data):
    """The header, and each fragment."""
    starts = [found.start() - 4 for found in re.finditer(b"moof", data)]
    return [data[start:end] for start, end in pairwise([0, *starts, len(data)])]


@pytest.mark.parametrize("name", MP4)
def test_a_fragment_that_is_lost_shows_as_a_jump_of_its_length(name):
    parts = fragments(recording(name)[0])

    found = hear(name, [*parts[:4], *parts[5:]])

    (hole,) = holes(found)
    assert hole == places(hear(name, parts))[3][1]
    assert hole + len(samples(found)) == len(whole(name))
    assert not [one for one in found if isinstance(one, Unreadable)]


@settings(deadline=None, max_examples=25)
@given(
    name=st.sampled_from(MP4),
    size=st.integers(200, 3_000),
    at=st.floats(0, 1),
    how=st.sampled_from(["missing", "reported", "noise", "zeros", "half"]),
)
def test_damage_of_mp4_costs_the_fragments_around_it(name, size, at, how):
    head, *rest = fragments(recording(name)[0])
    chunks = sliced(b"".join(rest), [size])
    number = round(at * (len(chunks) - 1))
    chunks[number] = {
        "noise": random.Random(size).randbytes(size), "zeros": bytes(size), "half": chunks[number][: size // 2],
    }.get(how, b"")  # fmt: skip

    found = hear(name, [head, *chunks], {number + 2} if how == "reported" else ())

    # Noise in a packet is noise to hear, so only what is left out shows; the fragment where the damage is, and the next.
    missing = len(whole(name)) - len(samples(found))
    touched = -(-size // min(map(len, rest[:-1]))) + 1
    assert missing <= touched * (RATE // 4 + 1_024)
    assert not [one for one in found if isinstance(one, RecordingStarted)]


def test_a_recorder_that_is_started_again_begins_another_recording():
    data, _ = recording("aac, edited")

    found = hear("aac, edited", sliced(data + data, [811]))

    (second,) = [number for number, one in enumerate(found) if isinstance(one, RecordingStarted)]
    for part in (found[:second], found[second + 1 :]):
        assert np.array_equal(samples(part), whole("aac, edited"))


def test_mp4_without_its_beginning_says_so():
    parts = fragments(recording("aac")[0])

    (first, *_) = found = hear("aac", parts[1:])

    assert first == Unreadable("MP4 without its beginning: the first bytes of a recorder say how to decode the rest")
    assert len(found) == 1


@pytest.mark.parametrize(
    ("codec", "options", "reason"),
    [("aac", {}, "MP4 that is not in fragments"), ("alac", SAFARI, "MP4 holds 'alac', not AAC or Opus")],
)
def test_mp4_that_is_not_read_says_why(codec, options, reason):
    data = encode(load_speech()[0].pcm[:RATE], codec, **options)

    assert hear("aac", [data]) == [Unreadable(reason)]


@pytest.mark.parametrize("name", ["adts", "mp3"])
def test_frames_that_are_lost_cost_themselves_and_those_that_refer_to_them(name):
    data, expected = recording(name)
    chunks = sliced(data, [1_000])

    found = hear(name, [*chunks[:5], *chunks[6:]])

    reports = [one for one in found if isinstance(one, Unreadable)]
    assert [one.reason for one in reports] == [f"bytes that are no {name.upper()}"]
    lost = len(expected) - len(samples(found))
    assert 0 < lost < 12 * 1_152
    # AAC fills bands with noise of its own.
    beside = np.abs(samples(found)[-RATE // 2 :].astype(int) - expected[-RATE // 2 :])
    assert beside.mean() < (1 if name == "mp3" else 100)


@settings(deadline=None, max_examples=8)
@given(name=st.sampled_from(["adts", "mp3"]), interval=st.integers(400, 9_000), size=st.integers(1, 3_000))
def test_titles_of_a_radio_are_skipped(name, interval, size):
    data, _ = recording(name)
    title = b"StreamTitle='News';".ljust(32, b"\0")
    blocks = [b"\2" + title if number == 1 else b"\0" for number in range(len(data))]
    radio = b"".join(
        part + (blocks[number] if len(part) == interval else b"")
        for number, part in enumerate(sliced(data, [interval]))
    )
    stream = StreamDecoder(FORMATS[name][0], max_hole_s=600, icy_interval=interval)

    found: list[Any] = [one for chunk in sliced(radio, [size]) for one in stream.feed(chunk)]
    found += stream.finish()

    assert np.array_equal(samples(found), whole(name))


@settings(deadline=None, max_examples=25)
@given(name=st.sampled_from(sorted(FORMATS)), data=st.data())
def test_whatever_is_mutated_nothing_raises(name, data):
    good = bytearray(recording(name)[0][:12_000])
    mutate(good, data)

    found = hear(name, sliced(bytes(good), data.draw(st.lists(st.integers(1, 2_000), min_size=1, max_size=5))))

    assert all(isinstance(one, DecodedPiece | Unreadable | RecordingStarted) for one in found)


@pytest.mark.parametrize(
    "piece",
    [
        b"\xff" * 65_536,
        b"\0\0\0\x10moof\0\0\0\x10mfhd" * 4_096,
        b"\0\7\xff\xffmdat" + bytes(65_528),
        b"ID3\4\0\0\x7f\x7f\x7f\x7f" * 6_500,
        random.Random(1).randbytes(65_536),
    ],
)
@pytest.mark.parametrize("name", ["aac", "adts", "mp3"])
def test_nonsense_is_reported_and_not_kept(name, piece):
    stream = StreamDecoder(FORMATS[name][0], max_hole_s=600)
    found: list[Any] = list(stream.feed(recording(name)[0][:6_000]))

    for _ in range(10):  # together more than may be kept
        found += stream.feed(piece)

    assert stream._container
    assert len(stream._container._buffer) <= 2**16
    assert any(isinstance(one, Unreadable) for one in found) or piece.startswith(b"ID3")


@pytest.mark.parametrize("name", FORMATS)
def test_what_it_is_is_recognised_without_a_content_type(name):
    kind = recognised_type(recording(name)[0][:4_000])

    assert kind == f"audio/{FORMATS[name][0]}"


@given(st.binary(max_size=300), st.sampled_from([b"", b"\xff\xfb\x90\x00", b"\xff\xf1\x50\x80", b"\xff\xff", b"ID3"]))
def test_samples_are_not_mistaken_for_frames(noise, start):
    assert recognised_type(start + noise) is None


@pytest.mark.parametrize("sample", [b"\xff\xff", b"\xff\xfb\xff\xfb", b"\0\0", b"\xff\xf1\xff\xf1", b"\xff\xfe"])
def test_quiet_samples_are_samples(sample):
    assert recognised_type(sample * 4_000) is None
