import math
from unittest.mock import patch

import numpy as np
import pytest

from bench.lib.media_files import KINDS, Kind, encode
from tests.support.media_files import Trickle, make, pcm, speech_at
from transcriber.audio.format import SampleFormat
from transcriber.audio.media.open import open_media
from transcriber.audio.media.samples import SampleConverter


def signal_to_noise_db(original: np.ndarray, heard: np.ndarray) -> float:
    wanted = original / 2**15
    return 10 * math.log10((wanted**2).sum() / max(float(((heard - wanted) ** 2).sum()), 1e-12))


def loudness(samples: np.ndarray) -> np.ndarray:
    """Of pieces of 20 ms at 8 kHz."""
    whole = samples[: len(samples) // 160 * 160].astype(float)
    power: np.ndarray = (whole.reshape(-1, 160) ** 2).mean(axis=1)
    return power**0.5


CASES = [
    (name, rate, channels)
    for name, kind in KINDS.items()
    for rate, channels in ((48_000, 1), (44_100, 2), (16_000, 1), (8_000, 1), (48_000, 2))
    if rate in kind.rates and channels in kind.channels
]


@pytest.mark.parametrize(("name", "rate", "channels"), CASES)
def test_what_was_encoded_comes_out_where_it_was(name, rate, channels):
    kind, original = KINDS[name], speech_at(rate, channels)
    data = encode(kind, original, rate)

    media = open_media(data)
    heard = pcm(media)

    decoded = media.format.rate
    assert decoded == (48_000 if "opus" in name else rate)
    assert media.format.channels == channels
    assert media.format.sample in {SampleFormat.S16LE, SampleFormat.F32LE}
    heard = np.pad(heard, ((max(0, -kind.delay), 0), (0, 0)))[max(0, kind.delay) :]
    frames = len(original) * decoded // rate
    assert -1 <= len(heard) - frames <= kind.extra * max(1, decoded // rate)
    if media.frames is not None:
        assert abs(media.frames - frames) <= kind.delay + kind.extra + 0.03 * decoded  # containers round, too
    if "amr" in media.codec:  # it keeps no wave, only its sound
        assert np.corrcoef(loudness(original), loudness(heard[: len(original)]))[0, 1] > 0.95
    elif decoded == rate:
        lossy_db = {"mp3 vbr": 8.0, "ogg vorbis": 12.0, "wav adpcm": 15.0}.get(name, 18.0)
        least_db = 80.0 if kind.lossless else lossy_db
        assert signal_to_noise_db(original, heard[: len(original)]) > least_db
    trickled = open_media(Trickle(data))
    assert list(trickled.pieces) == list(open_media(data).pieces)
    assert (trickled.format, trickled.frames, trickled.codec) == (media.format, media.frames, media.codec)


@pytest.mark.parametrize("name", ["wav s16", "flac", "m4a", "webm opus", "matroska aac"])
def test_a_name_in_another_encoding_costs_no_audio(name):
    data = make(name)
    odd = data.replace(b"Lavf", b"L\xe4vf")  # who wrote the file

    assert odd != data
    assert list(open_media(odd).pieces) == list(open_media(data).pieces)


def long_speech(rate, channels, times=10):
    """So many times 2.1 s that grow louder and softer, so that MP3 saves bits here and spends them there."""
    samples = np.tile(speech_at(rate, channels), (times, 1))
    return (samples * np.abs(np.sin(np.arange(len(samples)) / rate))[:, np.newaxis]).astype(np.int16)


SLOW_MP3 = Kind("mp3", "libmp3lame", bit_rate=8_000)
PASSED = [
    *((kind, rate, channels) for name, kind in KINDS.items() for rate, channels in ((48_000, 2), (16_000, 1))
      if rate in kind.rates and channels in kind.channels),
    (SLOW_MP3, 16_000, 1), (SLOW_MP3, 24_000, 1), (Kind("mp3", "libmp3lame", bit_rate=320_000), 44_100, 2),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "rate", "channels"), PASSED)
def test_decoding_from_any_piece_gives_the_very_same_rest(kind, rate, channels):
    # Of FLAC and MP3 packets are passed over; all others are decoded from their start, however long they are.
    times = 6 if kind.container in {"flac", "mp3"} else 4
    data = encode(kind, long_speech(rate, channels, times), rate)
    whole = list(open_media(data).pieces)

    for number in (1, 5, len(whole) // 2, len(whole) - 1):
        assert list(open_media(data, whole[number].frame).pieces) == whole[number:], number
    assert list(open_media(data, whole[-1].frame + 48_000).pieces) == []


@pytest.mark.parametrize("name", ["flac", "mp3 cbr"])
def test_what_was_read_before_is_not_decoded_again(name):
    data = encode(KINDS[name], long_speech(16_000, 1), 16_000)

    with patch.object(SampleConverter, "convert", autospec=True, side_effect=SampleConverter.convert) as decoded:
        assert list(open_media(data, 18 * 16_000).pieces)

    assert decoded.call_count < 21 * 16_000 / 576 / 2
