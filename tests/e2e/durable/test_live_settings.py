"""Settings that change while durable streams run: each at one frame, whoever dies."""

import pytest

from tests.support.audio import level
from tests.support.durable_streams import (
    ENV,
    WINDOW,
    Restarted,
    provisioned,
    store,
    store_windows,
    until_ended,
    until_stored,
)
from tests.support.live_settings import BUCKET, provision_bucket, put, until_taken
from transcriber.schema.messages import Final, Silence


@pytest.mark.parametrize("killed", [False, True], ids=["undisturbed", "killed"])
async def test_a_change_takes_effect_at_the_same_frame_whether_or_not_daemons_are_killed(
    broker, tmp_path, publisher, killed
):
    """The window that was open when a setting changed is cut and transcribed with the old one, by whatever daemon."""
    await provisioned(broker)
    await provision_bucket(broker)
    patient = {"STREAM_IDLE_SECS": 600, "HEARTBEAT_TIMEOUT_SECS": 600}  # starting a daemon may take long
    async with Restarted(broker, tmp_path, **ENV, **patient, CONFIG_BUCKET=BUCKET) as place:
        await store_windows(publisher, "s", [1])
        for number, change in enumerate(
            [("whisper_prompt", "alpha"), ("whisper_prompt", "beta"), ("whisper_language", "de"), ("speech_gate", "1")]
        ):
            whole = 2 * number + 2  # of a window that is just full the resampler still has a bit
            await store_windows(publisher, "s", [whole, whole + 1], first=whole - 1)
            await until_stored(publisher, lambda found, whole=whole: len(found.text) == whole)
            revision = await put(publisher, f"stream.s.{change[0]}", change[1])
            await until_taken(place, revision)
            if killed:
                await place.kill()
        await store_windows(publisher, "s", [10, 11], first=9)
        await store(publisher, "s", level(12, WINDOW), offset=11 * WINDOW, end=1)
        found = await until_ended(publisher)

    finals = found.of(Final)
    # The fake model says its prompt, where it has one.
    assert [(final.text, final.language) for final in finals] == [
        ("1", "en"), ("2", "en"), ("3", "en"), ("alpha", "en"), ("alpha", "en"), ("beta", "en"), ("beta", "en"),
        ("beta", "de"), ("beta", "de"),
    ]  # fmt: skip
    assert [(final.start_frame, final.frames) for final in finals] == [(n * WINDOW, WINDOW) for n in range(9)]
    quiet = found.of(Silence)
    assert quiet[0].start_frame == 9 * WINDOW
    assert sum(one.frames for one in quiet) == 3 * WINDOW
    found.check(12 * WINDOW)
