"""Who speaks, live, on one channel: each hundred of levels is a voice to the fake networks, and each half second a word."""

import os

import numpy as np
import pytest

from tests.support.audio import level, speak
from tests.support.daemon import Daemon
from tests.support.waiting import until
from transcriber.schema.messages import Final, Partial, Revision, Turn, message_id
from transcriber.testing.speech import SPEECH_FORMAT, load_speech

RATE = 16_000
HALF = RATE // 2

HEARS = {
    "INPUT_SAMPLE_RATE": RATE,
    "BUFFER_DURATION_SECS": 5,
    "LEFT_CONTEXT_SECS": 5,
    "FAKE_WORD_S": 0.5,
    "SPEAKERS": "voices",
}

# Three seconds of one voice and five of another, then two of each, in windows of five seconds.
SAID = [*range(101, 107), *range(201, 211), *range(111, 115), *range(211, 215)]

INTERRUPTED = [*range(101, 109), 201, 109, *range(202, 212)]
"""The second voice says too little in the first window to be one; the second window shows it."""

CONVERSATIONS = min(10, max(2, int(os.environ.get("SEEDS", "1"))))
"""With real networks; ten, and so fifty streams, are for ``SEEDS=10``: CI has no time for them."""


def labelled(messages):
    """Words with their labels."""
    return [(word.word, word.speaker) for message in messages for word in message.words]


def first_seen(levels):
    """The label that each level's voice has by the order in which voices appear."""
    voices = list(dict.fromkeys(number // 100 for number in levels))
    return [(str(number), "ABCDEFGH"[voices.index(number // 100)]) for number in levels]


async def say(publisher, stream, levels, **headers):
    payload = b"".join(level(number, HALF) for number in levels)
    await speak(publisher, stream, payload, **headers)


async def test_each_word_has_the_label_of_its_voice_and_the_turns_are_told(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, **HEARS | {"PARTIAL_INTERVAL_SECS": 1}):
        await say(publisher, "s", SAID[:4])
        await until(lambda: listener.of(Partial), "a partial")
        await say(publisher, "s", SAID[4:], end=1)
        await listener.ends(1)

    listener.check_accounts()
    assert {(p.turns, p.speaker, word.speaker) for p in listener.of(Partial) for word in p.words} == {(None,) * 3}
    finals = listener.of(Final)
    assert labelled(finals) == first_seen(SAID)
    assert [final.speaker for final in finals] == ["A", "B", "B"]
    # Of a change between two frames of the network, slivers may be left.
    turns = [turn for final in finals for turn in final.turns if turn.end - turn.start > 0.1]
    assert [(turn.speaker, round(turn.start), round(turn.end)) for turn in turns] == [
        ("A", 0, 3),
        ("B", 3, 5),
        ("B", 5, 8),
        ("A", 8, 10),
        ("B", 10, 12),
    ]
    assert all(final.start <= t.start < t.end <= final.start + final.duration for final in finals for t in final.turns)


async def test_fifty_streams_at_once_have_the_labels_that_each_has_alone(broker, tmp_path, publisher, listener):
    """Each with voices of its own, in an order of its own, payload by payload in turn."""
    said = {
        f"s{n}": [100 * voice + step for voice in np.roll([1, 2, 3, 4], n)[: 2 + n % 2] for step in range(1, 6)] * 2
        for n in range(50)
    }
    async with Daemon(broker.url, tmp_path, **HEARS, TRANSCRIPTION_QUEUE_CAPACITY=256):
        for at in range(0, 30, 5):
            for stream, levels in said.items():
                if piece := levels[at : at + 5]:
                    await say(publisher, stream, piece)
        for stream in said:
            await speak(publisher, stream, b"", end=1)
        await listener.ends(50)

    found = {stream: labelled(f for f in listener.of(Final) if f.stream == stream) for stream in said}
    assert found == {stream: first_seen(levels) for stream, levels in said.items()}


async def test_under_load_labels_are_left_out_and_a_second_pass_brings_them(broker, tmp_path, publisher, listener):
    """The first window is in hand while the others come; so of four places three are taken when it is done, then two."""
    job_s = tmp_path / "job_s"
    job_s.write_text("0")
    slow = {"FAKE_JOB_FILE": job_s, "TRANSCRIPTION_QUEUE_CAPACITY": 4, "SECOND_PASS": 1, "PARTIAL_INTERVAL_SECS": 0}
    async with Daemon(broker.url, tmp_path, **HEARS | slow):
        job_s.write_text("3600")
        await say(publisher, "s", SAID[:10])
        await until(lambda: listener.metrics and listener.metrics[-1]["transcriber.jobs.enqueued"] == 1)
        await until(lambda: listener.metrics[-1]["transcriber.queue.depth"] == 0)
        await say(publisher, "s", [*SAID[10:20], *SAID[:20]], end=1)
        await until(lambda: listener.metrics[-1]["transcriber.queue.depth"] == 3)
        job_s.write_text("0")
        await listener.ends(1)
        left_out = await until(
            lambda: next((m for m in listener.metrics if m["transcriber.speakers.left_out"]["busy"]), None)
        )

    listener.check_accounts()
    first, *rest = listener.of(Final)
    assert (first.turns, first.speaker, {word.speaker for word in first.words}) == (None, None, {None})
    assert all(final.turns and final.speaker for final in rest)
    assert left_out["transcriber.speakers.left_out"] == {"busy": 1, "failed": 0}
    (revision,) = listener.of(Revision)
    assert labelled([revision])[:20] == [(str(number), {1: "B", 2: "A"}[number // 100]) for number in SAID[:20]]


async def test_where_the_labeller_fails_the_text_stays_and_it_is_counted_and_logged(
    broker, tmp_path, publisher, listener
):
    """At the second voice; the second window hears that, too."""
    async with Daemon(broker.url, tmp_path, **HEARS, FAKE_VOICE_FAILS_AT=200) as daemon:
        await say(publisher, "s", [*range(201, 211), *range(101, 121)], end=1)
        await listener.ends(1)
        counted = await until(
            lambda: next((m for m in listener.metrics if m["transcriber.speakers.left_out"]["failed"]), None)
        )

    listener.check_accounts()
    finals = listener.of(Final)
    assert labelled(finals[:2]) == [(str(number), None) for number in (*range(201, 211), *range(101, 110))]
    assert [final.turns for final in finals[:2]] == [None, None]
    assert finals[2].speaker == "A"
    assert counted["transcriber.speakers.left_out"] == {"busy": 0, "failed": 2}
    assert "who speaks was not found: RuntimeError: the fake network failed, as requested" in daemon.log()


async def test_where_only_speakers_change_a_revision_says_so(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, **HEARS, SECOND_PASS=1):
        await say(publisher, "s", INTERRUPTED, end=1)
        await listener.ends(1)

    listener.check_accounts()
    finals = listener.of(Final)
    assert ("201", "B") not in labelled(finals)
    (revision,) = listener.of(Revision)
    assert revision.text == " ".join(final.text for final in finals)
    assert labelled([revision]) == first_seen(INTERRUPTED)
    turns = [turn.speaker for turn in revision.turns if turn.end - turn.start > 0.1]
    assert (revision.speaker, turns) == ("B", ["A", "B", "A", "B"])
    assert revision.replaces == tuple(message_id("s", f.session, f.start_frame, "final", 0) for f in finals)


async def test_two_real_voices_are_two_speakers(broker, tmp_path, publisher, listener):
    """The bundled speech and model, and the real networks: a woman, then a man."""
    woman, man = (
        recording.pcm[: 6 * SPEECH_FORMAT.rate * SPEECH_FORMAT.frame_bytes] for recording in load_speech()[:2]
    )
    async with Daemon(broker.url, tmp_path, fake=False, SPEAKERS="voices", PARTIAL_INTERVAL_SECS=0):
        await speak(publisher, "s", woman)
        await speak(publisher, "s", man, end=1)
        await listener.ends(1)

    listener.check_accounts()
    words = [word for final in listener.of(Final) for word in final.words]
    sure = [word for word in words if abs(word.start - 6) > 0.5 and abs(word.end - 6) > 0.5]
    assert len(sure) > 15
    assert [word.speaker for word in sure] == ["A" if word.start < 6 else "B" for word in sure]


@pytest.mark.long
async def test_real_voices_of_many_streams_have_the_turns_that_each_has_alone(broker, tmp_path, publisher, listener):
    """Conversations, each by itself, and then each on five streams at once; whisper is stubbed, the networks are not."""
    recordings = load_speech()
    second = SPEECH_FORMAT.rate * SPEECH_FORMAT.frame_bytes
    said = [
        [recordings[(n + part) % 6].pcm[: 4 * second + n * second // 10] for part in range(2)]
        for n in range(CONVERSATIONS)
    ]
    crowd = {f"s{n}-{copy}": pieces for n, pieces in enumerate(said) for copy in range(5)}
    stubbed = {"SPEAKERS": "voices", "LEFT_CONTEXT_SECS": 5, "TRANSCRIPTION_QUEUE_CAPACITY": 256}
    async with Daemon(broker.url, tmp_path, module="bench.lib.daemon", **stubbed):
        for n, pieces in enumerate(said):
            for piece in pieces:
                await speak(publisher, f"alone{n}", piece)
            await speak(publisher, f"alone{n}", b"", end=1)
            await listener.ends(n + 1)
        for part in range(2):  # all windows together are less than half of the queue
            for stream, pieces in crowd.items():
                await speak(publisher, stream, pieces[part])
        for stream in crowd:
            await speak(publisher, stream, b"", end=1)
        for count in range(len(said) + 1, len(said) + len(crowd) + 1):  # each in its time
            await listener.ends(count)

    found: dict[str, list[Turn]] = {}
    for final in listener.of(Final):
        found.setdefault(final.stream, []).extend(final.turns or ())
    assert {turn.speaker for turns in found.values() for turn in turns} >= {"A", "B"}
    for stream in crowd:
        assert found[stream] == found[f"alone{stream[1:].partition('-')[0]}"]
