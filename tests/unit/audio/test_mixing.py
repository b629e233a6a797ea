"""Several channels as one: each is in the mix, whatever the others hold."""

import io
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tests.support.media_files import Trickle, pcm, speech_at
from tests.support.wav_files import RATE, wav
from transcriber.audio.codecs.pcm import decode
from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.audio.media.open import open_media
from transcriber.audio.mixing import OPPOSED, MixReport, gains, mix_many, mix_two


def tone(frames: int = RATE, pitch_hz: float = 500.0) -> np.ndarray:
    return (0.5 * np.sin(np.arange(frames) * 2 * np.pi * pitch_hz / RATE)).astype(np.float32)


def noise(frames: int = RATE, level: float = 0.1, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, level, frames).astype(np.float32)


def power(samples: np.ndarray) -> float:
    return float(np.square(samples, dtype=np.float64).mean())


def one_of(channels: int, number: int, frames: int = 3_200) -> np.ndarray:
    """A tone in one channel, silence in all others."""
    samples = np.zeros((frames, channels), np.int16)
    samples[:, number] = tone(frames) * 2**15
    return samples


@pytest.mark.parametrize("positions", [None, 0, 3])
@pytest.mark.parametrize("channels", [3, 4, 6, 8, 9, 11, 12, 16, 17, 24, 64])
def test_of_channels_without_positions_each_is_as_loud_as_the_others(channels, positions):
    for number in {0, 2, channels // 2, channels - 1}:
        media = open_media(wav(one_of(channels, number), positions=positions))
        heard = pcm(media)

        assert media.format == AudioFormat(SampleFormat.F32LE, RATE, 1)
        np.testing.assert_allclose(heard[:, 0], tone(3_200) / channels, atol=1e-4)


def test_the_middle_of_a_film_is_louder_than_what_is_around_and_nothing_is_silent():
    loud = [np.abs(pcm(open_media(wav(one_of(6, number), positions=0x3F)))).max() / 0.5 for number in range(6)]

    np.testing.assert_allclose(loud, [0.707, 0.707, 1.0, 0.25, 0.5, 0.5], atol=0.01)


def encoded(layout, codec, container, number, options):
    """A tone in channel ``number`` of a file as FFmpeg writes it, 48 kHz."""
    channels, buffer = av.AudioLayout(layout).nb_channels, io.BytesIO()
    samples = np.zeros((48_000, channels), np.float32)
    samples[:, number] = tone(48_000)
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=48_000, layout=layout, options=options)
        stream.codec_context.open()
        size = stream.codec_context.frame_size or 1024
        packer = av.AudioResampler(stream.codec_context.format.name, layout, 48_000, size)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), "flt", layout)
        frame.sample_rate, frame.pts = 48_000, 0
        for part in [*packer.resample(frame), *packer.resample(None)]:
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize(("layout", "codec", "container", "options"), [
    ("3.0", "flac", "flac", {}), ("5.1", "flac", "flac", {}), ("7.1", "flac", "matroska", {}), ("4.0", "alac", "ipod", {}),
    ("5.1", "aac", "adts", {}), ("7.1", "aac", "ipod", {}), ("7.1", "libopus", "ogg", {}), ("3.0", "pcm_s16le", "mov", {}),
    ("6 channels", "pcm_s16le", "matroska", {}), ("12 channels", "pcm_s24le", "mov", {}), ("9 channels", "pcm_f32le", "caf", {}),
    ("64 channels", "pcm_s16be", "aiff", {}), ("11 channels", "pcm_s16be", "au", {}),
    ("12 channels", "libopus", "ogg", {"mapping_family": "255"}),
    ("8 channels", "libopus", "matroska", {"mapping_family": "255"}),
])  # fmt: skip
def test_every_channel_of_every_container_is_decoded(layout, codec, container, options):
    channels = av.AudioLayout(layout).nb_channels

    # FFmpeg's encoder of AAC leaves nothing but rumble in the channel of low frequencies.
    for number in {0, 1, 2, 3 % channels, channels // 2, channels - 1} - ({3} if codec == "aac" else set()):
        heard = pcm(open_media(encoded(layout, codec, container, number, options)))

        loud = np.sqrt(power(heard[4_800:43_200]) / power(tone(38_400)))
        assert loud > 0.1 or loud > 0.9 / channels, number


def test_positions_that_are_not_all_known_are_none():
    np.testing.assert_allclose(gains(("FL", "FR", "NONE")), [1 / 3] * 3)
    np.testing.assert_allclose(gains(("FL", "FR", "TC")), [0.5**0.5, 0.5**0.5, 0.5])


FRACTIONS = st.floats(-1, 1, width=32)


@given(st.lists(st.tuples(FRACTIONS, FRACTIONS), min_size=1, max_size=50))
def test_what_is_in_two_channels_is_never_much_quieter_in_their_mix(frames):
    channels = np.array(frames, np.float32)

    mixed = mix_two(channels)

    assert np.abs(mixed).max() <= 1
    assert power(mixed) >= 0.99 * OPPOSED / (1 + OPPOSED) * power(channels) - 1e-12
    # The words of both: nothing is made up, and what is turned round is only that.
    mean, difference = channels.mean(axis=1), (channels[:, 0] - channels[:, 1]) / 2
    assert np.array_equal(mixed, mean) or np.allclose(mixed, difference, atol=1e-7)


@pytest.mark.parametrize(("left", "right", "opposed"), [
    (tone(), -tone(), True), (tone(), -0.8 * tone(), True), (tone(), -tone() + noise(level=0.02), True),
    (tone(), tone(), False), (tone(), 0 * tone(), False), (tone(), tone(pitch_hz=700), False), (noise(), noise(seed=2), False),
    (tone(), -0.3 * tone(), False), (0 * tone(), 0 * tone(), False),
])  # fmt: skip
def test_a_channel_is_turned_round_only_if_it_is_the_negative_of_the_other(left, right, opposed):
    mix_report = MixReport()

    mixed = mix_two(np.stack([left, right], axis=1).astype(np.float32), mix_report)

    assert mix_report.opposed == (len(mixed) if opposed else 0)
    np.testing.assert_allclose(mixed, (left - right if opposed else left + right) / 2, atol=1e-6)


def test_whether_to_turn_it_round_depends_on_the_block_alone():
    quiet_then_crossed = np.concatenate([np.stack([noise(), noise(seed=2)], 1), np.stack([tone(), -tone()], 1)])
    payload = (quiet_then_crossed * 2**15).astype("<i2").tobytes()
    fmt, size = AudioFormat(SampleFormat.S16LE, RATE, 2), RATE // 10 * 4

    blocks = [decode(payload[at : at + size], fmt) for at in range(0, len(payload), size)]

    again = [decode(payload[at : at + size], fmt) for at in range(15 * size, len(payload), size)]
    assert all(np.array_equal(*pair) for pair in zip(blocks[15:], again, strict=True))
    np.testing.assert_allclose(np.concatenate(blocks[10:], axis=1)[0], tone(), atol=1e-4)


def test_among_many_channels_each_that_is_opposed_to_another_is_turned_round():
    voice, other = tone(), noise()
    channels = np.stack([other, voice, -voice, 0 * voice, -other], axis=1)
    mix_report = MixReport()

    mixed = mix_many(channels, gains(("NONE",) * 5), mix_report)

    np.testing.assert_allclose(mixed[:, 0], (2 * voice + 2 * other) / 5, atol=1e-6)
    assert mix_report.opposed == RATE


def test_a_file_with_crossed_wires_is_the_same_however_it_is_read():
    voice = speech_at(16_000)[:, 0]
    data = wav(np.stack([voice, -voice, 0 * voice, voice // 3], axis=1))

    media = open_media(data)
    pieces = list(media.pieces)

    assert power(np.frombuffer(pieces[0].data, "<f4")) > 0.2 * power(voice[:RATE] / 2**15)
    assert media.mix_report.warning(RATE)
    assert list(open_media(Trickle(data)).pieces) == pieces
    assert list(open_media(data, pieces[1].frame).pieces) == pieces[1:]


# Floats that nobody scaled.


def float_files(samples):
    """(frames, 1) float32 at 16 kHz in all containers that hold floats as they were written."""
    files = {"wav": wav(samples)}
    for container, codec in {
        "caf": "pcm_f32le",
        "au": "pcm_f32be",
        "mov": "pcm_f32le",
        "matroska": "pcm_f64le",
    }.items():
        buffer = io.BytesIO()
        with av.open(buffer, "w", format=container) as out:
            stream: Any = out.add_stream(codec, rate=RATE, layout="mono")
            kind = stream.codec_context.format.name
            row = samples.reshape(1, -1).astype(np.float32 if kind == "flt" else np.float64)
            frame = av.AudioFrame.from_ndarray(row, kind, "mono")
            frame.sample_rate, frame.pts = RATE, 0
            out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        files[container] = buffer.getvalue()
    return files


@pytest.mark.parametrize("unit", [2**15, 2**23, 2**31])
def test_integers_that_were_written_as_floats_are_read_at_their_scale(unit):
    quiet = noise(level=20 / 2**15)  # a second of it comes before the voice
    samples = np.concatenate([quiet, speech_at(RATE)[:, 0] / 2**15]).astype(np.float32)[:, np.newaxis]

    for name, data in float_files(np.float32(unit) * samples).items():
        heard = pcm(open_media(data))

        np.testing.assert_allclose(heard[RATE:], samples[RATE:], atol=1e-6, err_msg=name)
        assert power(heard[:RATE]) < 1  # before anything is loud, it is not known how large the integers are


def test_integers_of_16_bits_are_read_at_their_scale_from_the_start_also_where_they_are_quiet():
    samples = np.concatenate([noise(level=5), np.zeros(RATE), speech_at(RATE)[:, 0], noise(level=0.6)])
    samples = np.rint(samples).astype(np.float32)[:, np.newaxis]

    data = wav(samples)
    media = open_media(data)
    pieces = list(media.pieces)

    np.testing.assert_allclose(pcm(open_media(data)), samples / 2**15, atol=1e-6)
    assert list(open_media(Trickle(data)).pieces) == pieces
    assert list(open_media(data, 2 * RATE).pieces) == pieces[2:]


def test_a_recording_that_was_made_too_loud_is_clipped():
    samples = (8 * tone())[:, np.newaxis]

    for name, data in float_files(samples).items():
        np.testing.assert_allclose(pcm(open_media(data)), np.clip(samples, -1, 1), atol=1e-6, err_msg=name)


@given(st.lists(st.floats(width=32), min_size=1, max_size=100))
def test_any_floats_become_finite_ones_within_full_scale(values):
    data = wav(np.array(values, np.float32)[:, np.newaxis])

    heard = np.concatenate([np.frombuffer(piece.data, "<f4") for piece in open_media(data).pieces])

    assert np.isfinite(heard).all()
    assert np.abs(heard).max() <= 64
