import time

import pytest

from bench.capacity import losses
from bench.lib.account import account, after_audio_ms
from bench.lib.daemon import PLAIN, StubbedDaemon
from bench.lib.paced import PAYLOAD_FRAMES, Plan, publish
from tests.support.stopwatch import Stopwatch
from transcriber.bus.client_session import connected, subscribe
from transcriber.config import load_settings


async def test_every_frame_and_text_of_paced_streams_is_accounted_for(broker):
    settings = load_settings(nats_url=broker.url)
    with StubbedDaemon(broker.url, BUFFER_DURATION_SECS="1", **PLAIN) as daemon:
        assert await daemon.ready()
        async with connected(settings, "test") as connection:
            messages = await subscribe(connection, "transcripts.*.*")
            plan = Plan(broker.url, ("a", "b"), payloads=110, ramp_s=0.1, start_s=time.monotonic(), speed=20.0)
            watch = Stopwatch()
            publish(plan)

            came = await account(messages, plan)
            starved_s = watch.starved_s

    after_ms = after_audio_ms(plan, came.finals, came.finals_s)
    due_s = {
        (final.stream, final.segment): heard_s - ms / 1000
        for final, heard_s, ms in zip(came.finals, came.finals_s, after_ms, strict=True)
    }
    assert losses(came, 2 * 110 * PAYLOAD_FRAMES) == {
        "frames": 2 * 110 * PAYLOAD_FRAMES,
        "frames_unaccounted": 0,
        "gaps": {},
        "loss": 0.0,
        "queue_growth": pytest.approx(0.0, abs=0.1 + starved_s),
        "loss_to_come": pytest.approx(0.0, abs=0.1 + starved_s),
    }
    assert set(due_s) == {(stream, segment) for stream in "ab" for segment in range(3)}
    # The payloads with the last frames of the first window of a second, and of what the end left over.
    assert due_s["b", 0] == pytest.approx(plan.due_s[1, 49])
    assert due_s["b", 2] == pytest.approx(plan.due_s[1, 109])
    assert min(after_ms) > 0
    assert daemon.process.returncode == 0
