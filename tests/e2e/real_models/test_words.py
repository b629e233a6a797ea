"""Words of real people with real weights: live, and as files. Skipped where the weights cannot be had."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.lib.speech.speakers import other_voices
from tests.support.audio import speak
from tests.support.daemon import Daemon
from tests.support.real_weights import real_model, serving
from tests.support.transcripts import TranscriptListener
from tests.support.waiting import PATIENCE_S, until
from transcriber.schema.messages import Final, Revision
from transcriber.testing import speech
from transcriber.testing.speech import load_public_speech
from transcriber.testing.wer import word_errors, words
from transcriber.text.revisions import with_revisions

PEOPLE = load_public_speech()
PAYLOAD_BYTES = 3_200
SAID_FORMAT = "audio/x-raw;format=S16LE;rate=16000;channels=1"


def wer_percent(texts):
    """By name of the recording."""
    wrong = sum(word_errors(one.text, texts[one.name]) for one in PEOPLE)
    return 100 * wrong / sum(len(words(one.text)) for one in PEOPLE)


async def speak_all(publisher, listener):
    """Each of them on a stream of their own, until all have ended."""
    for one in PEOPLE:
        for at in range(0, len(one.pcm), PAYLOAD_BYTES):
            payload = one.pcm[at : at + PAYLOAD_BYTES]
            await speak(publisher, one.name, payload, content_type=one.format.content_type)
        await speak(publisher, one.name, b"", end=1)
    await listener.ends(len(PEOPLE))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    # However slow the machine is: a queue that is half full counts as load, under which doubts are left alone.
    roomy = {"TRANSCRIPTION_QUEUE_CAPACITY": "32", "REQUEST_TIMEOUT_SECS": "600"}
    with serving("tiny.en", tmp_path_factory.mktemp("tiny"), **roomy) as broker:
        yield broker


async def test_live_words_of_real_people_are_right(tiny, publisher_to):
    async with TranscriptListener(tiny.url) as listener:
        await speak_all(await publisher_to(tiny), listener)

    listener.check_accounts()
    wer = wer_percent({one.name: listener.text(one.name) for one in PEOPLE})
    print(f"WER {wer:.1f} %")
    assert wer <= 12


async def test_a_revision_is_no_worse_than_what_was_published(broker, tmp_path, publisher, listener):
    env = {"WHISPER_MODEL_PATH": real_model("tiny.en"), "TRANSCRIPTION_QUEUE_CAPACITY": 32, "SECOND_PASS": 1}
    async with Daemon(broker.url, tmp_path, fake=False, **env):
        await speak_all(publisher, listener)
        figures = await until(lambda: listener.metrics and listener.metrics[-1])

    listener.check_accounts()
    of = {one.name: [m for m in listener.messages if m.stream == one.name] for one in PEOPLE}
    live, revised = (
        wer_percent({name: " ".join(m.text for m in what(some) if isinstance(m, Final)) for name, some in of.items()})
        for what in (list, with_revisions)
    )
    print(f"WER {live:.1f} % live, {revised:.1f} % in the end; left out: {figures['transcriber.revisions.left_out']}")
    assert listener.of(Revision)
    assert revised <= live


def test_files_of_real_people_are_right(tiny, tmp_path):
    files = [Path(speech.__file__).parent / "public_speech" / f"{one.name}.flac" for one in PEOPLE]

    done = subprocess.run(
        [sys.executable, "-m", "transcriber", "transcribe", *files, "-o", tmp_path],
        env=os.environ | {"NATS_URL": tiny.url},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )

    assert done.returncode == 0, done.stderr
    wer = wer_percent({one.name: (tmp_path / f"{one.name}.txt").read_text() for one in PEOPLE})
    print(f"WER {wer:.1f} %")
    assert wer <= 12


async def test_yes_said_six_times_is_not_taken_for_a_loop(tiny, publisher_to):
    try:
        say = other_voices(150, 1.0)["flite_slt"]
    except OSError as error:
        pytest.skip(f"no synthesisers: {error}")
    utterance = say(["Yes,"] * 6)
    assert utterance
    pause = np.zeros(8_000, np.int16)
    pcm = np.concatenate((pause, utterance.audio, pause)).astype("<i2").tobytes()
    async with TranscriptListener(tiny.url) as listener:
        publisher = await publisher_to(tiny)
        for at in range(0, len(pcm), PAYLOAD_BYTES):
            await speak(publisher, "yes", pcm[at : at + PAYLOAD_BYTES], content_type=SAID_FORMAT)
        await speak(publisher, "yes", b"", end=1)
        await listener.ends(1)

    assert 5 <= words(listener.text("yes")).count("yes") <= 9, listener.of(Final)
