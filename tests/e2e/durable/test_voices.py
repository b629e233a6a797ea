"""Who speaks, in durable mode: labels go on over the death of a daemon, and revisions follow the stored voices."""

import os
import random
from functools import partial

import pytest

from tests.e2e.live.test_voices import HEARS, INTERRUPTED, RATE, first_seen, labelled
from tests.support.audio import level
from tests.support.daemon import Daemon
from tests.support.durable_streams import Restarted, provisioned, store, stored, until_stored
from transcriber.schema.messages import End, Final, Revision
from transcriber.testing.speech import SPEECH_FORMAT, load_speech

SEEDS = range(int(os.environ.get("SEEDS", "1")))
"""Places at which a daemon is killed; more of them than CI has time for: ``SEEDS=20``."""

BLOCK = SPEECH_FORMAT.rate // 2 * SPEECH_FORMAT.frame_bytes


def heard(found):
    """All that was published of who says what."""
    return [
        (final.text, final.speaker, final.turns, [(word.start, word.speaker) for word in final.words])
        for final in found.of(Final)
    ]


def has_more(count, found):
    return len(found.messages) > count


async def calm_and_killed(running, publisher, pieces, kill_after):
    """The same audio on two streams, one after the other; in the second one the daemon is killed after so many finals."""
    for stream in ("calm", "killed"):
        for piece in pieces:
            await store(publisher, stream, piece)
        if stream == "killed":
            await until_stored(publisher, lambda found: len(found.of(Final)) >= kill_after, stream)
            await running.kill()
        await store(publisher, stream, b"", end=1)
        while not (found := await stored(publisher, stream)).of(End):  # each message in its time
            await until_stored(publisher, partial(has_more, len(found.messages)), stream)
    return await stored(publisher, "calm"), await stored(publisher, "killed")


@pytest.mark.parametrize("seed", SEEDS)
async def test_labels_go_on_over_a_kill_as_if_there_had_been_none(broker, tmp_path, publisher, seed):
    """After it the two who have spoken speak again, and a third one."""
    said = [*range(101, 107), *range(201, 216), *range(301, 310), *range(111, 115), *range(216, 222), *range(311, 315)]
    await provisioned(broker, "calm", "killed")
    async with Restarted(broker, tmp_path, **HEARS, DURABLE=1) as running:
        pieces = [level(number, RATE // 2) for number in said]
        calm, killed = await calm_and_killed(running, publisher, pieces, random.Random(seed).randint(1, 4))
    assert running.deaths == 0

    assert heard(killed) == heard(calm)
    assert labelled(killed.of(Final)) == first_seen(said)
    marks = [final.checkpoint.session for final in killed.of(Final)]
    assert [len(mark.speakers[0].voices) for mark in marks if mark][:4] == [2, 2, 3, 3]


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS)
async def test_labels_of_real_voices_go_on_wherever_it_is_killed(broker, tmp_path, publisher, seed):
    """A woman, a man, and the woman again; the bundled model, and the real networks."""
    pcm = b"".join(recording.pcm for recording in load_speech()[:3])
    pieces = [pcm[at : at + BLOCK] for at in range(0, len(pcm), BLOCK)]
    await provisioned(broker, "calm", "killed")
    quick = {"PARTIAL_INTERVAL_SECS": 0, "WHISPER_THREADS": 1}
    async with Restarted(broker, tmp_path, fake=False, DURABLE=1, SPEAKERS="voices", **quick) as running:
        calm, killed = await calm_and_killed(running, publisher, pieces, random.Random(seed).randint(1, 6))

    assert heard(killed) == heard(calm)
    assert {speaker for _, speaker, _, _ in heard(calm)} == {"A", "B"}


async def test_a_revision_labels_by_the_voices_that_were_stored_when_its_passage_was_complete(
    broker, tmp_path, publisher
):
    await provisioned(broker, "s")
    async with Daemon(broker.url, tmp_path, **HEARS, DURABLE=1, SECOND_PASS=1):
        for number in INTERRUPTED:
            await store(publisher, "s", level(number, RATE // 2))
        await store(publisher, "s", b"", end=1)
        found = await until_stored(publisher, lambda found: found.of(Revision))

    assert ("201", "B") not in labelled(found.of(Final))
    (revision,) = found.of(Revision)
    assert labelled([revision]) == first_seen(INTERRUPTED)
