"""The bundled model transcribes the bundled speech through the real daemon, as telephony and as two channels."""

import asyncio

import numpy as np
import pytest

from tests.support.audio import speak
from tests.support.daemon import Daemon
from tests.support.stereo import interleaved
from transcriber.audio.resampler import Resampler
from transcriber.schema.messages import Final, Partial
from transcriber.testing.speech import SPEECH_FORMAT, load_speech
from transcriber.testing.wer import word_errors, words

MAX_WER = 0.2
BLOCK_S = 0.1


def mu_law(pcm):
    """Samples at 48 kHz as 8 kHz mu-law (ITU-T G.711)."""
    resampler = Resampler(SPEECH_FORMAT.rate)
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32_768)
    at_16k = resampler.flush(samples)
    # Every second one of what is smoothed over two: telephones are no better.
    at_8k = (at_16k[:-1] + at_16k[1:])[::2] / 2
    magnitude = np.minimum(np.abs(at_8k) * 32_768, 32_635).astype(int) + 132
    exponent = np.floor(np.log2(magnitude)).astype(int) - 7
    mantissa = (magnitude >> (exponent + 3)) & 15
    sign = np.where(at_8k < 0, 128, 0)
    return (~(sign | exponent << 4 | mantissa) & 255).astype("u1").tobytes()


async def play(publisher, stream, payload, *, rate, frame_bytes, content_type):
    """In blocks, at four times the speed of time: the worker is idle now and then."""
    frames = round(BLOCK_S * rate)
    for start in range(0, len(payload) // frame_bytes, frames):
        block = payload[start * frame_bytes : (start + frames) * frame_bytes]
        await speak(publisher, stream, block, offset=start, content_type=content_type)
        await asyncio.sleep(BLOCK_S / 4)
    await speak(publisher, stream, b"", end=1)


def said_by(listener, speaker):
    return " ".join(final.text for final in listener.of(Final) if final.speaker == speaker)


def wer(said, heard):
    return word_errors(said, heard) / len(words(said))


@pytest.fixture
async def daemon(request, broker, tmp_path):
    """The real one; its parameter: ``WHISPER_PROCESSES``."""
    async with Daemon(
        broker.url,
        tmp_path,
        fake=False,
        SPEAKERS="channels",
        TRANSCRIPTION_QUEUE_CAPACITY=64,
        WHISPER_PROCESSES=getattr(request, "param", "auto"),
    ) as running:
        yield running


async def test_telephony_is_understood(daemon, publisher, listener):
    recordings = load_speech()[:2]
    payload = b"".join(mu_law(recording.pcm) for recording in recordings)

    await play(
        publisher, "s", payload, rate=8_000, frame_bytes=1, content_type="audio/x-raw;format=MULAW;rate=8000;channels=1"
    )
    (end,) = await listener.ends(1)

    listener.check_accounts()
    assert end.dropped_frames == end.lost_frames == 0
    assert wer(" ".join(recording.text for recording in recordings), said_by(listener, None)) < MAX_WER


@pytest.mark.parametrize("daemon", [1], indirect=True, ids=["process"])
async def test_two_channels_are_understood_and_guesses_grow_into_their_finals(daemon, publisher, listener):
    left, right = load_speech()[2:4]
    payload = interleaved(np.frombuffer(left.pcm, "<i2"), np.frombuffer(right.pcm, "<i2"))

    await play(publisher, "s", payload, rate=48_000, frame_bytes=4, content_type="audio/x-raw;rate=48000;channels=2")
    (end,) = await listener.ends(1)

    listener.check_accounts()
    assert end.dropped_frames == end.lost_frames == 0
    assert wer(left.text, said_by(listener, "0")) < MAX_WER
    assert wer(right.text, said_by(listener, "1")) < MAX_WER
    finals = {(final.speaker, final.segment): final.text for final in listener.of(Final)}
    guesses = [(finals[p.speaker, p.segment], p.text) for p in listener.of(Partial) if (p.speaker, p.segment) in finals]
    assert guesses
    # What is said in the whole window begins as the guess: what the final adds is no error of the guess.
    errors = sum(errors_so_far(final, guess) for final, guess in guesses)
    assert errors < 0.2 * sum(len(words(guess)) for _, guess in guesses)


def errors_so_far(final, guess):
    """Words by which a guess differs from the beginning of the final."""
    so_far = words(final)
    return min(word_errors(" ".join(so_far[:count]), guess) for count in range(len(so_far) + 1))
