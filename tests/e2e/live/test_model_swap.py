"""Models that change while the daemon works: no gap, and every final names the model that made it."""

import asyncio
import shutil
import signal

from tests.e2e.live.test_processes import children
from tests.support.audio import level, speak
from tests.support.daemon import Daemon
from tests.support.waiting import until
from transcriber.clients.admin_command import swap_model
from transcriber.config import load_settings
from transcriber.models.catalog import DEMO_MODEL
from transcriber.schema.messages import Final, Gap, Silence
from transcriber.testing.speech import load_speech

STREAMS = [f"s{number}" for number in range(8)]
WINDOW_S = 2


def swap(broker, model, **options):
    given = {"instance": None, "every": False, "unload_first": False, "by": "ada"} | options
    return swap_model(load_settings(nats_url=broker.url), model, **given)


class Load:
    """Eight streams, each with a window in the queue or in hand at all times: the next one comes with the text of the one before."""

    def __init__(self, publisher, listener):
        self._publisher, self._listener = publisher, listener
        self._pcm = b"".join(recording.pcm for recording in load_speech())
        self.sent = dict.fromkeys(STREAMS, 0)

    def _answered(self, stream):
        return sum(len(self._listener.of(kind, stream)) for kind in (Final, Silence))

    async def _send(self, stream, **headers):
        size = 2 * 48_000 * WINDOW_S
        at = self.sent[stream] * size % (len(self._pcm) - size)
        await speak(self._publisher, stream, self._pcm[at : at + size], **headers)
        self.sent[stream] += 1

    def keep_up(self):
        """Send what is due."""
        return [self._send(stream) for stream in STREAMS if self._answered(stream) >= self.sent[stream]]

    async def during(self, work):
        """Load until ``work`` is done and each stream has had two windows more; returns what it returned."""
        task, done_at = asyncio.ensure_future(work), None
        while done_at is None or any(self.sent[one] < done_at[one] + 2 for one in STREAMS):
            await asyncio.gather(*self.keep_up(), asyncio.sleep(0.01))
            if task.done() and done_at is None:
                done_at = dict(self.sent)
        return task.result()

    async def end(self):
        for stream in STREAMS:
            await self._send(stream, end=1)
        await self._listener.ends(len(STREAMS))


async def test_three_swaps_under_load_cost_no_gap_and_each_final_names_its_model(
    broker, tmp_path, publisher, listener, capsys
):
    other = tmp_path / "ggml-other.bin"
    shutil.copy(DEMO_MODEL, other)
    env = {
        "WHISPER_MODEL_DIR": tmp_path, "BUFFER_DURATION_SECS": WINDOW_S, "BUFFER_CUT": "fixed", "ENDPOINT_SILENCE_SECS": 0,
        "PARTIAL_INTERVAL_SECS": 0, "TRANSCRIPTION_QUEUE_CAPACITY": 2 * len(STREAMS),
    }  # fmt: skip
    load = Load(publisher, listener)
    async with Daemon(broker.url, tmp_path, fake=False, **env) as daemon:
        await load.during(asyncio.sleep(0))
        for model in ("other", "demo", "other"):
            assert await load.during(swap(broker, model)) == 0

        def swaps():
            return [line for line in daemon.log_lines() if line["msg"].startswith("the model is ")]

        daemon.process.send_signal(signal.SIGHUP)  # WHISPER_MODEL is demo
        await load.during(until(lambda: len(swaps()) == 4))
        daemon.process.send_signal(signal.SIGHUP)
        await until(lambda: len(swaps()) == 5)
        other.write_bytes(other.read_bytes()[:-1])
        assert await swap(broker, "other") == 1
        await load.end()
        status, _ = await daemon.stop()

    assert status == 0
    listener.check_accounts()
    assert listener.of(Gap) == []
    for stream in STREAMS:
        models = [final.model for final in listener.of(Final, stream)]
        changes = [one for number, one in enumerate(models) if number == 0 or one != models[number - 1]]
        assert changes == ["demo", "other", "demo", "other", "demo"]
    assert [(line["model"], line["by"]) for line in swaps()[3:5]] == [("demo", "SIGHUP"), ("demo", "SIGHUP")]
    assert swaps()[4]["msg"] == "the model is not swapped: its file has not changed"
    assert "ggml-other.bin: truncated: ends in" in capsys.readouterr().err
    assert listener.metrics[-1]["transcriber.model"] == {"demo": 1}
    assert listener.metrics[-1]["transcriber.model.swaps"] == {"swapped": 4, "unchanged": 1, "refused": 0, "failed": 1}


async def test_a_sighup_before_it_is_ready_is_heeded_when_it_is(broker, tmp_path):
    async with Daemon(broker.url, tmp_path, FAKE_BEFORE="transcriber.engine.pool:WorkerPool.start:1 SIGHUP") as daemon:
        unchanged = "the model is not swapped: its file has not changed"
        await until(lambda: any(line["msg"] == unchanged for line in daemon.log_lines()))
        assert daemon.last_line(unchanged)["by"] == "SIGHUP"


async def test_models_in_processes_are_swapped_and_where_neither_can_be_loaded_the_daemon_ends_with_1(
    broker, tmp_path, publisher, listener, capsys
):
    reason = tmp_path / "reason"
    env = {"INPUT_SAMPLE_RATE": 16_000, "BUFFER_DURATION_SECS": 0.5, "WHISPER_PROCESSES": 2, "FAKE_LOAD_FILE": reason}
    async with Daemon(broker.url, tmp_path, **env) as daemon:
        before = children(daemon)
        assert await swap(broker, "other") == 0
        await speak(publisher, "s", level(1, 8_000))
        await until(lambda: len(listener.of(Final)) == 1)
        other = children(daemon)
        assert (len(before), len(other), len({*before, *other})) == (2, 2, 4)
        for options in ({}, {"unload_first": True}):
            assert await swap(broker, "broken", **options) == 1
            await speak(publisher, "s", level(2, 8_000))
        await until(lambda: len(listener.of(Final)) == 3)
        assert [final.model for final in listener.of(Final)] == ["other"] * 3
        said = capsys.readouterr().err.splitlines()
        assert [line.partition(": ")[2].partition(": ")[2] for line in said] == [
            "failed: the fake model is broken, as requested; it keeps other"
        ] * 2
        assert listener.metrics[-1]["transcriber.engine.restarts"] == 0

        reason.write_text("the disk is gone")
        await swap(broker, "third", unload_first=True)
        assert await daemon.ended() == 1
    assert "neither model can be loaded: the disk is gone" in daemon.log()
    listener.check_accounts()
