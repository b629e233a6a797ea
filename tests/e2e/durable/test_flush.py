"""``Audio-Flush`` in durable mode: stored with its payload, so that a daemon that resumes cuts the same windows."""

from tests.support.audio import level
from tests.support.durable_streams import ENV, RATE, Restarted, provisioned, store, until_ended, until_stored
from transcriber.schema.messages import Final, Status

FLUSH = {"Audio-Flush": "1"}
LONG = {"BUFFER_DURATION_SECS": 25}
"""Nothing else ends a window."""


async def test_each_flush_is_answered_once_however_often_the_daemon_is_killed(broker, tmp_path, publisher):
    await provisioned(broker)
    async with Restarted(broker, tmp_path, **ENV | LONG) as place:
        await store(publisher, "s", level(1, RATE), **FLUSH)
        await until_stored(publisher, lambda found: found.of(Final))
        await place.kill()
        await store(publisher, "s", level(2, 800), **FLUSH)
        await until_stored(publisher, lambda found: any(s.state == "flushed" for s in found.of(Status)))
        await place.kill()
        await store(publisher, "s", level(2, RATE))
        await store(publisher, "s", b"", **FLUSH)
        await until_stored(publisher, lambda found: len(found.of(Final)) == 2)
        await place.kill()
        await store(publisher, "s", level(3, RATE), end=1)
        found = await until_ended(publisher)

    assert [(f.text, f.start_frame, f.frames, f.flushed) for f in found.of(Final)] == [
        ("1", 0, RATE, True),
        ("2", RATE, RATE + 800, True),
        ("3", 2 * RATE + 800, RATE, False),
    ]
    assert [s.start_frame for s in found.of(Status) if s.state == "flushed"] == [RATE + 800]
    found.check(3 * RATE + 800)
