"""What is in a payload, as its ``Content-Type`` or it itself says."""

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given, strategies as st

from tests.support.synthetic_speech import speech
from transcriber.audio.codecs.pcm_payload import IgnoredPart, PcmPayload, read_payload
from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.errors import BadInputError

DEFAULT = AudioFormat(rate=16_000)
STEREO = AudioFormat(SampleFormat.S16LE, 44_100, 2)
TYPES = [
    None, "audio/x-raw", "audio/x-raw;format=F32LE", "audio/L16", "audio/l16;rate=8000;channels=2", "audio/wav", "audio/vnd.wave",
]  # fmt: skip


def wav(frames, fmt="PCM_16", rate=44_100, channels=2):
    file = io.BytesIO()
    soundfile.write(file, np.full((frames, channels), 0.25), rate, subtype=fmt, format="WAV")
    return file.getvalue()


@given(st.binary(max_size=200), st.sampled_from(TYPES), st.sampled_from([None, DEFAULT, STEREO]), st.booleans())
def test_any_payload_is_read_to_the_frame_or_refused(payload, content_type, session, has_wav_header):
    payload = wav(0) + payload if has_wav_header else payload
    try:
        sound = read_payload(payload, content_type, session, DEFAULT)
    except BadInputError:
        return

    assert len(sound.data) == sound.frames * sound.format.frame_bytes
    assert len(payload) - len(sound.data) < sound.format.frame_bytes + (len(wav(0)) if sound.has_wav_header else 0)
    assert sound == read_payload(payload, content_type, session, DEFAULT) or sound.unusable


def test_without_a_type_it_is_the_sessions_format_else_the_default():
    assert read_payload(bytes(4), None, STEREO, DEFAULT) == PcmPayload(bytes(4), STEREO)
    assert read_payload(bytes(4), None, None, DEFAULT) == PcmPayload(bytes(4), DEFAULT)


def test_less_than_a_frame_is_refused_and_nothing_is_a_heartbeat():
    with pytest.raises(BadInputError, match="3 bytes are less than one frame of 4 bytes"):
        read_payload(b"abc", None, STEREO, DEFAULT)
    assert read_payload(b"", None, STEREO, DEFAULT).frames == 0


def test_odd_bytes_at_the_end_are_passed_over_and_said():
    odd = IgnoredPart("bytes", "7 bytes are not whole frames of 4 bytes")

    assert read_payload(bytes(7), None, STEREO, DEFAULT) == PcmPayload(bytes(4), STEREO, ignored=(odd,))


def test_floats_that_are_not_finite_can_be_counted_and_must_not_be_transcribed():
    sound = read_payload(np.array([0, np.inf], "<f4").tobytes(), "audio/x-raw;format=F32LE", None, DEFAULT)

    assert (sound.frames, sound.unusable) == (2, "F32LE samples are not all finite")


@pytest.mark.parametrize("level", [1, 0.001])
@pytest.mark.parametrize("order", [">i2", "<i2"])
@pytest.mark.parametrize("channels", [1, 2])
def test_l16_is_read_in_the_byte_order_in_which_it_was_sent(order, level, channels):
    samples = np.repeat(speech(10, 1) * level * 20_000, channels).astype("<i2")
    pieces = np.split(samples, range(320 * channels, len(samples), 320 * channels))

    heard = [
        read_payload(piece.astype(order).tobytes(), f"audio/L16;channels={channels}", None, DEFAULT) for piece in pieces
    ]

    assert b"".join(sound.data for sound in heard) == samples.tobytes()
    assert heard[0].format == AudioFormat(SampleFormat.S16LE, 16_000, channels)


def test_l16_that_does_not_say_is_in_network_order():
    assert read_payload(b"\x01\x02", "audio/L16", None, DEFAULT).data == b"\x02\x01"


@pytest.mark.parametrize("kind", ["audio/wav", "Audio/Wave", "audio/x-wav; codecs=1", "audio/vnd.wave"])
def test_a_wav_file_is_read_by_its_header(kind):
    for subtype, sample in (
        ("PCM_16", SampleFormat.S16LE),
        ("PCM_24", SampleFormat.S24LE),
        ("ULAW", SampleFormat.MULAW),
    ):
        sound = read_payload(wav(100, subtype), kind, DEFAULT, DEFAULT)

        assert (sound.frames, sound.format, sound.has_wav_header, sound.ignored) == (
            100,
            AudioFormat(sample, 44_100, 2),
            True,
            (),
        )


def test_samples_after_a_wav_header_are_those_of_the_session_and_before_any_a_guess():
    assert read_payload(bytes(8), "audio/wav", STEREO, DEFAULT) == PcmPayload(bytes(8), STEREO)

    first = read_payload(bytes(8), "audio/wav", None, DEFAULT)

    assert (first.data, first.format) == (bytes(8), DEFAULT)
    (odd,) = first.ignored
    assert odd.detail == f"Content-Type audio/wav without a WAV header: taken for {DEFAULT.content_type}"


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (wav(0)[:40], "no whole WAV header in 40 bytes"),
        (wav(1, "PCM_16", 400_000), "400000 Hz; 8000 to 192000 are read"),
    ],
)
def test_a_wav_that_cannot_be_read_is_refused(payload, said):
    with pytest.raises(BadInputError, match=said):
        read_payload(payload, "audio/wav", None, DEFAULT)
