"""Captions of real people, with real weights: they lie where there is speech, in clips, files and live text. Skipped without weights."""

import re
from itertools import accumulate

import numpy as np
import pytest
import soxr

from tests.support.audio import speak
from tests.support.clip_requests import ask, wav
from tests.support.file_jobs import file_client
from tests.support.real_weights import serving
from tests.support.transcripts import TranscriptListener
from transcriber.schema.messages import Status
from transcriber.testing.speech import load_public_speech
from transcriber.text.captions import Cues

RATE, PHONE_RATE = 16_000, 8_000
CUE = re.compile(r"(\d+):(\d+):(\d+),(\d+) --> (\d+):(\d+):(\d+),(\d+)\n(?:Speaker (\d): )?((?:.+\n)+)")
KENNEDY, *AUSTEN = (np.frombuffer(one.pcm, "<i2").astype(np.float32) / 32768 for one in load_public_speech())
SPOKEN_S = 0.35
"""After which Kennedy's first word begins; he pauses from 4.5 to 5.4 s."""

FIRST_S = 5.0


def hiss(seconds, db=-60):
    return (np.random.default_rng(3).standard_normal(round(seconds * RATE)) * 10 ** (db / 20)).astype(np.float32)


def pcm(samples):
    """As on the phone, at 8 kHz: so clips fit into a message."""
    samples = soxr.resample(samples, RATE, PHONE_RATE)
    return (samples.clip(-1, 1) * 32767).astype("<i2").tobytes()


def cues_of(text):
    """Speaker, from, to and text of each."""
    found = []
    for *stamps, speaker, body in CUE.findall(text):
        hours, minutes, seconds, milli, *until = map(int, stamps)
        end_s = 3600 * until[0] + 60 * until[1] + until[2] + until[3] / 1000
        found.append((speaker, 3600 * hours + 60 * minutes + seconds + milli / 1000, end_s, body.strip()))
    return found


ROOMY = {
    "FILES": "1", "TRANSCRIPTION_QUEUE_CAPACITY": "32", "PARTIAL_INTERVAL_SECS": "0", "REQUEST_TIMEOUT_SECS": "600",
}  # fmt: skip


@pytest.fixture(scope="module")
def mix(tmp_path_factory):
    with serving("tiny.en", tmp_path_factory.mktemp("mix"), **ROOMY) as broker:
        yield broker


@pytest.fixture(scope="module")
def channels(tmp_path_factory):
    with serving("tiny.en", tmp_path_factory.mktemp("channels"), **ROOMY, SPEAKERS="channels") as broker:
        yield broker


async def captions(broker, samples, way):
    """What becomes of ``samples``, (n,) or (n, channels), as SRT, in one way to transcribe them."""
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    file = wav(pcm(samples), PHONE_RATE, channels)
    async with file_client(broker) as desk, TranscriptListener(broker.url) as listener:
        if way == "clip":
            return cues_of((await ask(desk.client, file, response_format="srt")).data.decode())
        if way == "file":
            job = await desk.submit(file)
            assert (await desk.over(job)).state == "done"
            return cues_of(await desk.result(job, "srt"))
        payload, content_type = pcm(samples), f"audio/x-raw;format=S16LE;rate={PHONE_RATE};channels={channels}"
        step = PHONE_RATE * 2 * channels // 5
        for at in range(0, len(payload), step):
            await speak(desk.client, "s", payload[at : at + step], content_type=content_type)
        await speak(desk.client, "s", b"", end=1)
        await listener.ends(1)
        cues = Cues("srt")
        assert listener.of(Status)
        return cues_of("".join(map(cues.add, listener.messages)))


WAYS = pytest.mark.parametrize("way", ["clip", "file", "live"])


@WAYS
async def test_the_first_caption_after_silence_is_where_the_first_word_is_spoken(mix, way):
    samples = np.concatenate((hiss(20), KENNEDY))

    cues = await captions(mix, samples, way)

    assert cues[0][1] == pytest.approx(20 + SPOKEN_S, abs=0.5)
    assert cues[-1][2] <= 20 + len(KENNEDY) / RATE


@WAYS
async def test_no_caption_lies_in_a_long_pause(mix, way):
    first = round(FIRST_S * RATE)
    samples = np.concatenate((KENNEDY[:first], hiss(12), KENNEDY[first:]))

    cues = await captions(mix, samples, way)

    assert cues[0][1] == pytest.approx(SPOKEN_S, abs=0.5)
    assert any(start_s == pytest.approx(FIRST_S + 12.4, abs=0.8) for _, start_s, _, _ in cues)
    for _, start_s, end_s, text in cues:
        assert end_s <= FIRST_S + 0.7 or start_s >= FIRST_S + 12 - 0.3, text


@WAYS
async def test_no_caption_of_a_call_lies_across_the_others_turn(channels, way):
    said = [
        KENNEDY[: round(FIRST_S * RATE)],
        AUSTEN[0][: 4 * RATE],
        KENNEDY[round(FIRST_S * RATE) :],
        AUSTEN[1][: 5 * RATE],
    ]
    ends = list(accumulate(len(one) + RATE // 2 for one in said))
    turns = [
        (str(n % 2), (end - len(one)) / RATE - 0.5, end / RATE - 0.5)
        for n, (one, end) in enumerate(zip(said, ends, strict=True))
    ]
    samples = np.stack((hiss(ends[-1] / RATE), hiss(ends[-1] / RATE)), axis=1)
    for (speaker, start_s, _), one in zip(turns, said, strict=True):
        samples[round(start_s * RATE) : round(start_s * RATE) + len(one), int(speaker)] += one

    cues = await captions(channels, samples, way)

    for speaker, start_s, end_s, text in cues:
        own = [(a, b) for who, a, b in turns if who == speaker and a - 1 <= start_s and end_s <= b + 1]
        assert own, (speaker, start_s, end_s, text)
    assert {speaker for speaker, *_ in cues} == {"0", "1"}
    assert len({turn for _, start_s, _, _ in cues for turn in turns if turn[1] - 1 <= start_s <= turn[2]}) == 4
