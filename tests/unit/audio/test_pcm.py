"""Payloads to samples: known values, formats, refusals."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from transcriber.audio.codecs.pcm import count_frames, decode
from transcriber.audio.format import AudioFormat, SampleFormat, parse_content_type
from transcriber.audio.mixing import mix_two
from transcriber.errors import BadInputError

DEFAULT = AudioFormat()
FORMATS = st.builds(AudioFormat, st.sampled_from(SampleFormat), st.integers(8_000, 192_000), st.integers(1, 2))


@pytest.mark.parametrize(
    ("fmt", "payload", "expected"),
    [
        (SampleFormat.S16LE, np.array([0, 16384, -32768], "<i2").tobytes(), [0, 0.5, -1]),
        (SampleFormat.S24LE, bytes([0, 0, 0, 0, 0, 0x40, 0, 0, 0x80]), [0, 0.5, -1]),
        (SampleFormat.S32LE, np.array([0, 2**30, -(2**31)], "<i4").tobytes(), [0, 0.5, -1]),
        (SampleFormat.F32LE, np.array([0, 0.5, -7], "<f4").tobytes(), [0, 0.5, -1]),
        (SampleFormat.U8, bytes([128, 192, 0]), [0, 0.5, -1]),
        # ITU-T G.711, tables 1a and 2a: the largest, the smallest and zero.
        (SampleFormat.MULAW, bytes([0xFF, 0x80, 0x00, 0x7F]), [0, 32124 / 32768, -32124 / 32768, 0]),
        (SampleFormat.ALAW, bytes([0xD5, 0xAA, 0x2A, 0x55]), [8 / 32768, 32256 / 32768, -32256 / 32768, -8 / 32768]),
    ],
)
def test_known_bytes_become_known_samples(fmt, payload, expected):
    samples = decode(payload, AudioFormat(fmt))[0]

    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, expected, atol=1e-7)


def test_two_channels_are_mixed_to_their_mean():
    payload = np.array([[16384, -16384], [16384, 16384]], "<i2").tobytes()

    samples = decode(payload, AudioFormat(channels=2))[0]

    np.testing.assert_allclose(samples, [0, 0.5])


def test_two_channels_are_split_if_wanted():
    payload = np.array([[16384, -16384], [0, 8192], [-32768, 0]], "<i2").tobytes()

    samples = decode(payload, AudioFormat(channels=2), split=True)

    np.testing.assert_array_equal(samples, [[0.5, 0, -1], [-0.5, 0.25, 0]])
    assert samples.flags.c_contiguous


@given(st.sampled_from(SampleFormat), st.binary(max_size=800))
def test_each_channel_alone_is_what_it_is_beside_another(sample, payload):
    one = (
        payload[: len(payload) // 24 * 24].replace(b"\xff", b"\x01").replace(b"\x7f", b"\x01")
    )  # no float that is not finite
    size = AudioFormat(sample).frame_bytes
    frames = [one[at : at + size] for at in range(0, len(one), size)]
    left, right = b"".join(frames[::2]), b"".join(frames[1::2])

    samples = decode(one, AudioFormat(sample, channels=2), split=True)

    np.testing.assert_array_equal(samples[0], decode(left, AudioFormat(sample))[0])
    np.testing.assert_array_equal(samples[1], decode(right, AudioFormat(sample))[0])
    mixed = decode(one, AudioFormat(sample, channels=2))[0]
    np.testing.assert_allclose(mixed, mix_two(np.ascontiguousarray(samples.T)), atol=1e-6)


def test_splitting_one_channel_changes_nothing():
    payload = np.array([16384, -16384], "<i2").tobytes()

    np.testing.assert_array_equal(decode(payload, DEFAULT, split=True), [[0.5, -0.5]])


@given(FORMATS, st.binary(max_size=4096))
def test_any_bytes_decode_into_range_or_are_refused(fmt, payload):
    try:
        frames = count_frames(payload, fmt)
    except BadInputError:
        return

    samples = decode(payload, fmt)[0]

    assert samples.shape == (frames,)
    assert np.isfinite(samples).all()
    assert len(samples) == 0 or np.abs(samples).max() <= 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_floats_that_are_not_finite_are_bad_input(value):
    payload = np.array([0.1, value], "<f4").tobytes()

    with pytest.raises(BadInputError, match="finite"):
        count_frames(payload, AudioFormat(SampleFormat.F32LE))


@pytest.mark.parametrize("value", [100.5, -1e9, 20_000])
def test_floats_that_nobody_scaled_are_bad_input(value):
    payload = np.array([0.1, value], "<f4").tobytes()

    with pytest.raises(
        BadInputError, match=r"^F32LE samples reach \d+: full scale is 1, and these look like integers$"
    ):
        count_frames(payload, AudioFormat(SampleFormat.F32LE))


def test_floats_that_are_all_integers_were_not_scaled_however_quiet():
    with pytest.raises(BadInputError, match="reach 3: full scale is 1"):
        count_frames(np.array([0, -3, 2, 1], "<f4").tobytes(), AudioFormat(SampleFormat.F32LE))


@pytest.mark.parametrize("values", [[0.3, -7], [1, 0, -1, 1], [3.5, -2.25]])
def test_floats_that_are_too_loud_are_clipped(values):
    payload = np.array(values, "<f4").tobytes()

    assert count_frames(payload, AudioFormat(SampleFormat.F32LE)) == len(values)
    np.testing.assert_array_equal(
        decode(payload, AudioFormat(SampleFormat.F32LE))[0], np.clip(values, -1, 1, dtype="<f4")
    )


def test_half_a_frame_is_bad_input():
    with pytest.raises(BadInputError, match="3 bytes are not whole frames of 2 bytes"):
        count_frames(b"abc", DEFAULT)


@given(FORMATS)
def test_a_formats_own_content_type_names_it(fmt):
    assert parse_content_type(fmt.content_type, DEFAULT) == fmt


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("audio/x-raw", DEFAULT),
        ("AUDIO/X-RAW; Rate = 8000 ;format=mulaw", AudioFormat(SampleFormat.MULAW, 8000, 1)),
        ('audio/x-raw;format="F32LE";channels="2";layout=interleaved;', AudioFormat(SampleFormat.F32LE, 48_000, 2)),
        ("audio/x-raw;channel-mask=0x3", DEFAULT),
        (
            "audio/x-raw, format=(string)F32LE, rate=(int)16000, channels=(int)2, channel-mask=(bitmask)0x0000000000000003",
            AudioFormat(SampleFormat.F32LE, 16_000, 2),
        ),
        ('audio/x-raw, format=(string)"U8", rate=(int) 8000', AudioFormat(SampleFormat.U8, 8_000, 1)),
        ("audio/L16;rate=16000;channels=2", AudioFormat(SampleFormat.S16LE, 16_000, 2)),
        ("audio/wav;codecs=1", DEFAULT),
    ],
)
def test_content_type_is_read_leniently(text, expected):
    assert parse_content_type(text, DEFAULT) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "audio/ogg", "audio/x-raw;format=S16BE", "audio/x-raw;rate=7999", "audio/x-raw;rate=192001",
        "audio/x-raw;rate=abc", "audio/x-raw;rate=-1", "audio/x-raw;rate=99999999999999999999", "audio/x-raw;channels=0",
        "audio/x-raw;channels=3", "audio/x-raw;rate=\u0664\u0668\u0660\u0660\u0660", "audio/x-raw;layout=non-interleaved",
    ],
)  # fmt: skip
def test_a_content_type_we_do_not_read_is_bad_input(text):
    with pytest.raises(BadInputError):
        parse_content_type(text, DEFAULT)


@pytest.mark.parametrize(
    ("name", "sample"),
    [("F32", SampleFormat.F32LE), ("s16", SampleFormat.S16LE), ("S24", SampleFormat.S24LE), ("S32", SampleFormat.S32LE),
     ("ulaw", SampleFormat.MULAW), ("PCMA", SampleFormat.ALAW)],
)  # fmt: skip
def test_short_names_of_formats_are_little_endian(name, sample):
    assert parse_content_type(f"audio/x-raw;format={name}", AudioFormat()).sample is sample


@given(st.text(max_size=60))
def test_any_content_type_is_read_or_refused(text):
    try:
        fmt = parse_content_type("audio/x-raw;" + text, DEFAULT)
    except BadInputError:
        return

    assert 8_000 <= fmt.rate <= 192_000
    assert fmt.channels in {1, 2}


@pytest.mark.parametrize(
    "value", ["audio/webm;codecs=opus", "Audio/Ogg", "audio/opus", "video/webm", "video/mp4", "audio/aac", "audio/mpeg"]
)
def test_encoded_audio_is_refused_with_the_reason(value):
    with pytest.raises(BadInputError, match=r"^\w+/\w+: encoded audio is accepted in live mode only$"):
        parse_content_type(value, AudioFormat())
